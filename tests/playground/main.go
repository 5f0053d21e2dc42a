// Command playground runs the operator on a control plane of its own until it is interrupted, for trying things out.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	fmt.Println("Starting a control plane and the operator")
	c, err := cluster.Start(ctx, controlplane.KubeControllerManager, controlplane.KubeScheduler)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(false)) }()
	if err := c.Install(ctx); err != nil {
		return err
	}
	operator, err := c.StartOperator(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.Stop()) }()

	fmt.Printf(`
It runs. Its log is %[3]s
In another terminal:

  export KUBECONFIG=%[1]s
  alias kubectl=%[2]s
  kubectl apply --server-side -f - <<'EOF'
  apiVersion: toolhive.stacklok.dev/v1alpha1
  kind: MCPServer
  metadata: {name: my-mcp-server}
  spec: {image: "my-image:latest"}
  EOF
  kubectl scale statefulset my-mcp-server --replicas=3
  kubectl get mcpservers --watch

Ctrl-C stops everything.
`, c.Kubeconfig, c.KubectlPath(), operator.LogFile())
	<-ctx.Done()
	return nil
}
