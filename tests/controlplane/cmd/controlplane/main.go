// Command controlplane runs a real Kubernetes control plane on this machine until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"mcpserver-operator/tests/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	kubeconfig := flag.String("kubeconfig", "", "write the kubeconfig of an administrator to this `file`")
	components := flag.String("components",
		strings.Join([]string{controlplane.KubeControllerManager, controlplane.KubeScheduler}, ","),
		"additional components, separated by commas: kube-controller-manager, "+
			"kube-scheduler (with a node), metrics-server; if empty, only etcd and kube-apiserver run")
	node := flag.String("node", string(controlplane.Played),
		"the kind of node: \"played\" is a node that kwok simulates, \"real\" is a node with kubelet and containerd and requires root")
	nodes := flag.Int("nodes", 1, "the number of real nodes: 1 or 2")
	preflight := flag.Bool("preflight", false, "check whether a real node can run on this machine, print the reason if not, and exit")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}

	if *preflight {
		return controlplane.Preflight()
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{
		Components: strings.FieldsFunc(*components, func(r rune) bool { return r == ',' }),
		Node:       controlplane.NodeKind(*node),
		Nodes:      *nodes,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop(false)) }()

	if *kubeconfig == "" {
		*kubeconfig = cp.Kubeconfig
	} else if err := controlplane.WriteKubeconfig(*kubeconfig, cp.Config); err != nil {
		return err
	}
	fmt.Printf("The control plane is ready. In another terminal:\n\n  export KUBECONFIG=%s\n  %s get pods --all-namespaces\n\nCtrl-C stops it.\n",
		*kubeconfig, cp.Kubectl())
	<-ctx.Done()
	return nil
}
