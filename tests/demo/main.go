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
	"mcpserver-operator/tests/images"
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
	kind := controlplane.Real
	if unavailable := controlplane.Available(kind); unavailable != nil {
		kind = controlplane.Played
		fmt.Printf("Pods are played by kwok and run nothing, so no client can talk to them: %s.\n", unavailable)
	}
	say(fmt.Sprintf("Starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and %s", nodes[kind]))
	c, err := cluster.StartWith(ctx, controlplane.Options{
		Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}, Node: kind,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(err != nil)) }()
	d := &demo{ctx: ctx, cluster: c, clients: kind == controlplane.Real}
	if d.clients {
		say("Building the images of an MCP server and of a client, both made with the Go SDK of MCP")
		if err := errors.Join(c.BuildImage(ctx, images.Server, serverImage, nextImage), c.BuildImage(ctx, images.Client, clientImage)); err != nil {
			return err
		}
	}

	say("Installing the CRD and the permissions of the operator, and starting it as its own ServiceAccount")
	if err := c.Install(ctx); err != nil {
		return err
	}
	operator, err := c.StartOperator(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.Stop()) }()

	d.kubectl("create", "namespace", namespace)
	d.tell(operator)
	return d.err
}

// nodes say what the pods run on.
var nodes = map[controlplane.NodeKind]string{
	controlplane.Real:   "a node with kubelet, containerd, kube-proxy and CoreDNS",
	controlplane.Played: "a node that kwok plays",
}

const (
	namespace = "demo"
	// Equal images under two names are two versions.
	serverImage = "demo.example/server:1"
	nextImage   = "demo.example/server:2"
	clientImage = "demo.example/client:1"

	undeclared = `apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {image: "` + serverImage + `", transport: streamable-http}
`
	declaredTwo = `apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {image: "` + nextImage + `", transport: streamable-http, replicas: 2}
`
	released = `apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {image: "` + nextImage + `", transport: streamable-http}
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
	d.call()

	say("2. The bug report: kubectl scale. The operator used to put this back to 1")
	d.kubectl("scale", "statefulset", "web", "--replicas=3")
	d.expect(3)
	d.show()

	say("3. Nothing that the operator does moves it: a new image, changed labels, a restart of the operator")
	d.apply(released)
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
	d.apply(released)
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
	d.call()
}

// demo runs steps until one fails; after that it does nothing.
type demo struct {
	ctx     context.Context
	cluster *cluster.Cluster
	clients bool // whether pods run, so that a client can call a server
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

// call lets a client in a pod call the server at the URL in the status, and shows who answered.
func (d *demo) call() {
	if d.err != nil || !d.clients {
		return
	}
	var url string
	if url, d.err = d.cluster.Kubectl(d.ctx, "--namespace="+namespace, "get", "mcpserver", "web", "-o", "jsonpath={.status.url}"); d.err != nil {
		return
	}
	fmt.Println("(a client lists the tools and calls one)")
	d.kubectl("run", "client", "--image="+clientImage, "--restart=Never", "--", "-url="+url, "-tool=whoami")
	d.wait("pod/client", "jsonpath={.status.phase}=Succeeded")
	d.kubectl("logs", "client")
	d.kubectl("delete", "pod", "client", "--now")
	if d.err == nil {
		fmt.Println("✓ the server answers at", url)
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
