// Command playground runs the operator on a new control plane until it is interrupted, for experiments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
	"mcpserver-operator/tests/images"
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
	node := flag.String("node", string(controlplane.Played), "the kind of node: played or real")
	flag.Parse()
	fmt.Printf("Starting a control plane with a %s node, and the operator.\n", *node)
	c, err := cluster.StartWith(ctx, controlplane.Options{
		Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler},
		Node:       controlplane.NodeKind(*node),
	})
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

	image := "my-image:latest"
	if controlplane.NodeKind(*node) == controlplane.Real {
		// The node cannot pull images. It only has this image.
		image = "playground.example/server:1"
		if err := c.BuildImage(ctx, images.Server, image); err != nil {
			return err
		}
	}
	fmt.Printf(`
The operator is running. Its log is %[3]s.
Run in another terminal:

  export KUBECONFIG=%[1]s
  alias kubectl=%[2]s
  kubectl apply --server-side -f - <<'EOF'
  apiVersion: toolhive.stacklok.dev/v1beta1
  kind: MCPServer
  metadata: {name: my-mcp-server}
  spec: {image: "%[4]s"}
  EOF
  kubectl scale statefulset my-mcp-server --replicas=3
  kubectl get mcpservers --watch

Ctrl-C stops everything.
`, c.Kubeconfig, c.KubectlPath(), operator.LogFile(), image)
	<-ctx.Done()
	return nil
}
