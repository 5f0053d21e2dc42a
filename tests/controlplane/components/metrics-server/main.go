// Command metrics-server serves metrics.k8s.io. HorizontalPodAutoscalers use it to scale by CPU.
package main

import (
	"os"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app"

	"mcpserver-operator/tests/controlplane/components/internal/parent"
)

func main() {
	parent.ExitWith()
	os.Exit(cli.Run(app.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())))
}
