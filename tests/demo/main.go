// Command demo shows the behavior from the README on a real control plane, with the real kubectl. It checks each step and exits
// with an error at the first failure.
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
	fmt.Printf("\nAll steps passed in %s.\n", time.Since(started).Round(time.Second))
}

func run(ctx context.Context) (err error) {
	kind := controlplane.Real
	if unavailable := controlplane.Available(kind); unavailable != nil {
		kind = controlplane.Played
		fmt.Printf("kwok simulates the node, so no container runs and the demo cannot call the server. The reason is: %s.\n", unavailable)
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
		say("Building the images of an MCP server and an MCP client, both based on the MCP Go SDK")
		if err := errors.Join(c.BuildImage(ctx, images.Server, serverImage, nextImage), c.BuildImage(ctx, images.Client, clientImage)); err != nil {
			return err
		}
	}

	say("Installing the CRD and the permissions, and starting the operator with its ServiceAccount")
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

// nodes describe the kinds of node.
var nodes = map[controlplane.NodeKind]string{
	controlplane.Real:   "a real node with kubelet, containerd, kube-proxy and CoreDNS",
	controlplane.Played: "a node that kwok simulates",
}

const (
	namespace = "demo"
	// The server images have the same content. The different names make the StatefulSet roll out a change.
	serverImage = "demo.example/server:1"
	nextImage   = "demo.example/server:2"
	clientImage = "demo.example/client:1"

	undeclared = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "` + serverImage + `", transport: streamable-http}
`
	declaredTwo = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "` + nextImage + `", transport: streamable-http, replicas: 2}
`
	released = `apiVersion: toolhive.stacklok.dev/v1beta1
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

// tell runs the story.
func (d *demo) tell(operator *cluster.Operator) {
	say("1. An MCPServer without spec.replicas starts with one pod")
	d.apply(undeclared)
	d.expect(1)
	d.show()
	d.call()

	say("2. kubectl scale sets 3 replicas, and the operator keeps them. In the bug report, the operator reset the StatefulSet to 1")
	d.kubectl("scale", "statefulset", "web", "--replicas=3")
	d.expect(3)
	d.show()

	say("3. A new image, a new label and a restart of the operator do not change the scale")
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

	say("4. Declaring spec.replicas: 2 scales the StatefulSet to 2")
	d.apply(declaredTwo)
	d.expect(2)
	d.show()

	say("5. Removing spec.replicas releases the field and does not reset it: the scale stays at 2")
	d.apply(released)
	d.expect(2)
	d.waitOwner("Unclaimed")
	d.expect(2)
	d.show()

	say("6. A HorizontalPodAutoscaler with minReplicas and maxReplicas 4 takes over without a conflict")
	d.apply(autoscaler)
	d.expect(4)
	d.show()
	d.kubectl("get", "events.events.k8s.io", "--field-selector=regarding.kind=MCPServer",
		"-o", "custom-columns=REASON:.reason,NOTE:.note")
	d.call()
}

// demo runs steps. After a step has failed, all further steps do nothing.
type demo struct {
	ctx     context.Context
	cluster *cluster.Cluster
	clients bool // whether containers run, so that a client can call the server
	err     error
}

func say(text string) { fmt.Printf("\n\033[1m%s\033[0m\n", text) }

// kubectl runs a command, and prints the command and its output.
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

// expect waits until the StatefulSet has the given number of pods, all pods are ready, and the MCPServer is Ready.
func (d *demo) expect(replicas int) {
	d.wait("mcpserver/web", fmt.Sprintf("jsonpath={.status.ready}=%d/%d", replicas, replicas))
	d.wait("mcpserver/web", "condition=Ready")
	d.wait("statefulset/web", fmt.Sprintf("jsonpath={.spec.replicas}=%d", replicas))
	if d.err == nil {
		fmt.Printf("✓ %d of %d pods are ready\n", replicas, replicas)
	}
}

// call runs a client pod that calls the server at the URL in the status, and prints the response.
func (d *demo) call() {
	if d.err != nil || !d.clients {
		return
	}
	var url string
	if url, d.err = d.cluster.Kubectl(d.ctx, "--namespace="+namespace, "get", "mcpserver", "web", "-o", "jsonpath={.status.url}"); d.err != nil {
		return
	}
	fmt.Println("(a client pod lists the tools and calls one)")
	d.kubectl("run", "client", "--image="+clientImage, "--restart=Never", "--", "-url="+url, "-tool=whoami")
	d.wait("pod/client", "jsonpath={.status.phase}=Succeeded")
	d.kubectl("logs", "client")
	d.kubectl("delete", "pod", "client", "--now")
	if d.err == nil {
		fmt.Println("✓ the server responds at", url)
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
