// Command kubelet is the Kubernetes kubelet, for a real node.
package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // registers the log format
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // registers the client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // registers the version metric
	"k8s.io/kubernetes/cmd/kubelet/app"

	"mcpserver-operator/tests/controlplane/components/internal/parent"
)

func main() {
	parent.ExitWith()
	os.Exit(cli.Run(app.NewKubeletCommand(context.Background())))
}
