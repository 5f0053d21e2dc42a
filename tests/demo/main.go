// Command demo shows the behavior from the README on a real control plane, with the real kubectl. It checks each step and exits
// with an error at the first failure. With -record, it also records the run, for the pictures in docs/pictures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	folder := flag.String("record", "", "the folder to which a recording of the run is written; empty for none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *folder)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// out is where the demo prints: the standard output, and the recording if there is one.
var out = screen(os.Stdout)

func printf(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }

func run(ctx context.Context, folder string) (err error) {
	record := &recorder{started: time.Now()}
	if folder != "" {
		out = io.MultiWriter(out, record)
		printf("$ make demo\n")
	}
	kind := controlplane.Real
	if unavailable := controlplane.Available(kind); unavailable != nil {
		kind = controlplane.Played
		printf("kwok simulates the node, so no container runs and the demo cannot call the server. The reason is: %s.\n", unavailable)
	}
	say(fmt.Sprintf("Starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and %s", nodes[kind]))
	c, err := cluster.StartWith(ctx, controlplane.Options{
		Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}, Node: kind,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(err != nil)) }()
	d := &demo{ctx: ctx, cluster: c, record: record, recorded: folder != "", clients: kind == controlplane.Real}
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
	if folder != "" && d.err == nil {
		d.err = record.watch(ctx, c)
	}
	d.tell(operator)
	if d.err != nil {
		return d.err
	}
	printf("\nAll steps passed in %s.\n", time.Since(record.started).Round(time.Second))
	if folder == "" {
		return nil
	}
	version, err := c.ServerVersion()
	if err != nil {
		return err
	}
	return record.write(folder, version, string(kind))
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
	d.apply("an MCPServer without replicas", undeclared)
	d.expect(1)
	d.show()
	d.call()

	say("2. kubectl scale sets 3 replicas, and the operator keeps them. In the bug report, the operator reset the StatefulSet to 1")
	d.change("scale", "statefulset", "web", "--replicas=3")
	d.expect(3)
	d.show()

	say("3. A new image, a new label and a restart of the operator do not change the scale")
	d.apply("another image", released)
	d.expect(3)
	d.kubectl("rollout", "status", "statefulset", "web")
	d.change("label", "mcpserver", "web", "team=platform")
	if d.err == nil {
		printf("(restarting the operator)\n")
		d.record.act("the operator restarts")
		d.err = operator.Restart(d.ctx)
	}
	d.expect(3)
	d.show()

	say("4. Declaring spec.replicas: 2 scales the StatefulSet to 2")
	d.apply("replicas: 2", declaredTwo)
	d.expect(2)
	d.show()

	say("5. Removing spec.replicas releases the field and does not reset it: the scale stays at 2")
	d.apply("replicas removed", released)
	d.expect(2)
	d.waitOwner("Unclaimed")
	d.expect(2)
	d.show()

	say("6. A HorizontalPodAutoscaler with minReplicas and maxReplicas 4 takes over without a conflict")
	d.apply("a HorizontalPodAutoscaler, minReplicas: 4", autoscaler)
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
	record  *recorder
	// recorded is whether the recording is written.
	recorded bool
	// clients is whether containers run, so that a client can call the server.
	clients bool
	err     error
}

// say prints the title of a step.
func say(text string) { printf("\n%s%s%s\n", bold, text, normal) }

// change runs a command that changes something, and records it.
func (d *demo) change(args ...string) {
	if d.err == nil {
		d.record.act("kubectl " + strings.Join(args, " "))
	}
	d.kubectl(args...)
}

// kubectl runs a command, and prints the command and its output.
func (d *demo) kubectl(args ...string) {
	d.kubectlWithInput("", args...)
}

func (d *demo) kubectlWithInput(input string, args ...string) {
	if d.err != nil {
		return
	}
	printf("$ kubectl %s\n", strings.Join(args, " "))
	printed, err := d.cluster.KubectlWithInput(d.ctx, input, append([]string{"--namespace=" + namespace}, args...)...)
	if err != nil {
		d.err = err
		return
	}
	printf("%s", printed)
}

// apply applies a manifest. The recording describes it with what.
func (d *demo) apply(what, manifest string) {
	if d.err != nil {
		return
	}
	printf("%s", manifest)
	d.record.act("kubectl apply: " + what)
	d.kubectlWithInput(manifest, "apply", "--server-side", "-f", "-")
}

// show ends a step. A recording holds every step for some seconds, so that it shows that nothing changes anymore.
func (d *demo) show() {
	d.kubectl("get", "mcpservers,statefulsets,pods")
	if d.err == nil && d.recorded {
		select {
		case <-time.After(4 * time.Second):
		case <-d.ctx.Done():
			d.err = d.ctx.Err()
		}
	}
}

// expect waits until the StatefulSet has the given number of pods, all pods are ready, and the MCPServer is Ready.
func (d *demo) expect(replicas int) {
	d.wait("mcpserver/web", fmt.Sprintf("jsonpath={.status.ready}=%d/%d", replicas, replicas))
	d.wait("mcpserver/web", "condition=Ready")
	d.wait("statefulset/web", fmt.Sprintf("jsonpath={.spec.replicas}=%d", replicas))
	if d.err == nil {
		printf("✓ %d of %d pods are ready\n", replicas, replicas)
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
	printf("(a client pod lists the tools and calls one)\n")
	d.kubectl("run", "client", "--image="+clientImage, "--restart=Never", "--", "-url="+url, "-tool=whoami")
	d.wait("pod/client", "jsonpath={.status.phase}=Succeeded")
	d.kubectl("logs", "client")
	d.kubectl("delete", "pod", "client", "--now")
	if d.err == nil {
		printf("✓ the server responds at %s\n", url)
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
