// Command kube-scheduler is the Kubernetes scheduler. managedFields records the name of this executable.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // registers the client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // registers the version metric
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"mcpserver-operator/tests/controlplane/components/internal/parent"
)

func main() {
	parent.ExitWith()
	os.Exit(cli.Run(app.NewSchedulerCommand()))
}
