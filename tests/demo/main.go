// Command demo tells the story of the bug report that this operator was asked for with, on a real control plane and
// with the real kubectl. It checks every step, and ends with an error at the first that is not as promised.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	started := time.Now()
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
	fmt.Printf("\nEvery step was as promised. It took %s.\n", time.Since(started).Round(time.Second))
}

func run(ctx context.Context) (err error) {
	say("Starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and a node that kwok plays")
	c, err := cluster.Start(ctx, controlplane.KubeControllerManager, controlplane.KubeScheduler)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(err != nil)) }()

	say("Installing the CRD and the permissions of the operator, and starting it as its own ServiceAccount")
	if err := c.Install(ctx); err != nil {
		return err
	}
	operator, err := c.StartOperator(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.Stop()) }()

	d := &demo{ctx: ctx, cluster: c}
	d.kubectl("create", "namespace", namespace)
	d.tell(operator)
	return d.err
}

const (
	namespace  = "demo"
	undeclared = `apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1"}
`
	declaredTwo = `apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", replicas: 2}
`
	autoscaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  minReplicas: 4
  maxReplicas: 4
`
)

// tell is the story.
func (d *demo) tell(operator *cluster.Operator) {
	say("1. An MCPServer that does not declare replicas starts with one pod")
	d.apply(undeclared)
	d.expect(1)
	d.show()

	say("2. The bug report: kubectl scale. The operator used to put this back to 1")
	d.kubectl("scale", "statefulset", "web", "--replicas=3")
	d.expect(3)
	d.show()

	say("3. Nothing that the operator does moves it: a new image, changed labels, a restart of the operator")
	d.apply(strings.ReplaceAll(undeclared, "server:1", "server:2"))
	d.expect(3)
	d.kubectl("rollout", "status", "statefulset", "web")
	d.kubectl("label", "mcpserver", "web", "team=platform")
	if d.err == nil {
		fmt.Println("(restarting the operator)")
		d.err = operator.Restart(d.ctx)
	}
	d.expect(3)
	d.show()

	say("4. A declaration counts: replicas: 2")
	d.apply(declaredTwo)
	d.expect(2)
	d.show()

	say("5. Removing the declaration is a release, not a reset: it stays at 2")
	d.apply(undeclared)
	d.expect(2)
	d.waitOwner("Unclaimed")
	d.expect(2)
	d.show()

	say("6. A HorizontalPodAutoscaler with min = max = 4 takes over, without a conflict")
	d.apply(autoscaler)
	d.expect(4)
	d.show()
	d.kubectl("get", "events.events.k8s.io", "--field-selector=regarding.kind=MCPServer",
		"-o", "custom-columns=REASON:.reason,NOTE:.note")
}

// demo runs steps until one fails; after that it does nothing.
type demo struct {
	ctx     context.Context
	cluster *cluster.Cluster
	err     error
}

func say(text string) { fmt.Printf("\n\033[1m%s\033[0m\n", text) }

// kubectl runs a command and shows it with what it printed.
func (d *demo) kubectl(args ...string) {
	d.kubectlWithInput("", args...)
}

func (d *demo) kubectlWithInput(input string, args ...string) {
	if d.err != nil {
		return
	}
	fmt.Printf("$ kubectl %s\n", strings.Join(args, " "))
	out, err := d.cluster.KubectlWithInput(d.ctx, input, append([]string{"--namespace=" + namespace}, args...)...)
	if err != nil {
		d.err = err
		return
	}
	fmt.Print(out)
}

func (d *demo) apply(manifest string) {
	if d.err != nil {
		return
	}
	fmt.Print(manifest)
	d.kubectlWithInput(manifest, "apply", "--server-side", "-f", "-")
}

func (d *demo) show() { d.kubectl("get", "mcpservers,statefulsets,pods") }

// expect waits until the StatefulSet has the given number of pods, all ready, and nothing is under way.
func (d *demo) expect(replicas int) {
	d.wait("mcpserver/web", fmt.Sprintf("jsonpath={.status.ready}=%d/%d", replicas, replicas))
	d.wait("mcpserver/web", "condition=Ready")
	d.wait("statefulset/web", fmt.Sprintf("jsonpath={.spec.replicas}=%d", replicas))
	if d.err == nil {
		fmt.Printf("✓ %d of %d pods are ready\n", replicas, replicas)
	}
}

func (d *demo) waitOwner(owner string) {
	d.wait("mcpserver/web", "jsonpath={.status.scale.owner}="+owner)
}

func (d *demo) wait(object, condition string) {
	if d.err != nil {
		return
	}
	_, d.err = d.cluster.Kubectl(d.ctx, "--namespace="+namespace, "wait", object, "--for="+condition, "--timeout=60s")
}
