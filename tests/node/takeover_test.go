package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/images/calls"
)

// generation is a version of ToolHive's operator, by what it leaves on a cluster.
type generation string

const (
	// beforeAugust set no owner reference on the StatefulSet.
	beforeAugust generation = "before August 2026"
	// sinceAugust makes the MCPServer the controller of the StatefulSet.
	sinceAugust generation = "since August 2026"
	// stdio is a server with this transport. It has no Services of its own, and its pods listen on no port.
	stdio generation = "stdio"
)

// longestOutage is how long clients may fail to call a server, from the stop of its proxy on. The pod of a stdio server must first be replaced by one with a
// runner.
const longestOutage = 30 * time.Second

// TestClientsSurviveTheWayOverFromToolHive: clients keep calling the Service while an MCPServer is taken over. Before, the pod of a proxy
// answers; this test lets a server play the proxy. Afterwards, the pods of the StatefulSet answer. In between, from the moment when the proxy
// stops until this operator has changed the Service, calls fail.
func TestClientsSurviveTheWayOverFromToolHive(t *testing.T) {
	for _, gen := range []generation{beforeAugust, sinceAugust, stdio} {
		test := feature("the way over from ToolHive, "+string(gen), "restricted")
		replicas := int32(2)
		if gen == stdio {
			replicas = 1 // of ToolHive's
			test = test.Setup(operatorHasRunner())
		}
		testEnv.Test(t, test.
			Setup(all(afterwards(operatorIsScaledTo(2)), operatorIsScaledTo(0), step(func(ctx context.Context, t *testing.T) { gen.leave(ctx, t) }), operatorIsScaledTo(2), theyRun(replicas))).
			Assess("a plugin of another minor version refuses", step(func(ctx context.Context, t *testing.T) {
				code, _, stderr, err := theCluster.Plugin(ctx, "1.1.0", "", "takeover", "web", "-n", in(ctx))
				must(t, err)
				if code != 2 || !strings.Contains(stderr, "1.1.0") {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
			})).
			Assess("clients that keep calling reach the servers, and the number of pods stays", holds("web", replicas, isTakenOver(gen), scaleIs("web", replicas))).
			Feature())
	}
}

// theyRun waits until the pods of the StatefulSet and the proxy are ready.
func theyRun(replicas int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pods of the StatefulSet and the proxy", func(ctx context.Context) (string, bool) {
			set := statefulSet(ctx, t, "web")
			out, err := theCluster.Kubectl(ctx, "-n", in(ctx), "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
			must(t, err)
			return fmt.Sprint(set.Status.ReadyReplicas, " pods"), set.Status.ReadyReplicas == replicas && out == "1"
		})
	})
}

// isTakenOver takes over the MCPServer while a client keeps calling, and fails if its calls fail for longer than longestOutage.
func isTakenOver(gen generation) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		caller := startClient(ctx, t, "web", fmt.Sprintf("-url=http://mcp-web-proxy.%s.svc:8080/mcp", in(ctx)),
			"-count=0", "-for=10m", "-every=200ms", "-timeout=2s", "-fresh")
		isOfProxy := func(instance string) bool { return strings.HasPrefix(instance, "web-") && !isOfSet(instance) }
		answersFrom(ctx, t, caller, isOfProxy)
		kubectl("scale", "deployment", "web", "--replicas=0")(ctx, t, nil)
		eventually(ctx, t, "the takeover", func(ctx context.Context) (string, bool) { // the proxy is still stopping
			code, stdout, stderr, err := theCluster.Plugin(ctx, firstVersion, "", "takeover", "web", "-n", in(ctx))
			must(t, err)
			return stdout + stderr, code == 0
		})
		// A stdio server does not return the name of its pod.
		isOfServer := func(result calls.Result) bool { return result.OK && !isOfProxy(result.Instance) }
		eventually(ctx, t, "20 answers of the server", func(ctx context.Context) (string, bool) {
			results, _ := printedBy(ctx, t, caller)
			good := len(slices.DeleteFunc(slices.Clone(results), func(result calls.Result) bool { return !isOfServer(result) }))
			return fmt.Sprint(good), good >= 20
		})
		scaleIs("web", replicasOf(statefulSet(ctx, t, "web")))(ctx, t, nil) // the rollout is complete
		results, _ := printedBy(ctx, t, caller)
		longest := longestFailure(results)
		t.Logf("%s: of %d calls, the longest failure lasted %s", gen, len(results), longest.Round(100*time.Millisecond))
		if longest > longestOutage {
			t.Errorf("clients could not call for %s, want at most %s", longest, longestOutage)
		}
	})
}

// longestFailure returns the longest time from a failed call to the next that succeeded.
func longestFailure(results []calls.Result) time.Duration {
	longest, failing := time.Duration(0), time.Time{}
	for _, result := range results {
		switch {
		case result.OK && !failing.IsZero():
			longest, failing = max(longest, result.Start.Sub(failing)), time.Time{}
		case !result.OK && failing.IsZero():
			failing = result.Start
		}
	}
	return longest
}

func replicasOf(set *appsv1.StatefulSet) int32 { return *set.Spec.Replicas }

// isOfSet reports whether a pod belongs to StatefulSet "web", not to the Deployment of the same name.
func isOfSet(instance string) bool { return instance == "web-0" || instance == "web-1" }

// answersFrom waits until a call of a client is answered by a pod.
func answersFrom(ctx context.Context, t *testing.T, pod string, is func(instance string) bool) {
	t.Helper()
	eventually(ctx, t, "an answer", func(ctx context.Context) (string, bool) {
		live := &corev1.Pod{}
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: pod}, live))
		if live.Status.Phase == corev1.PodPending {
			return "the client is pending", false
		}
		results, _ := printedBy(ctx, t, pod)
		if len(results) == 0 {
			return "no call", false
		}
		last := results[len(results)-1]
		return fmt.Sprintf("%+v", last), last.OK && is(last.Instance)
	})
}

// leave creates an MCPServer with what ToolHive's operator leaves. A server plays the proxy.
func (g generation) leave(ctx context.Context, t *testing.T) {
	t.Helper()
	create := func(manager, manifest string) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "create", "--field-manager="+manager, "-n", in(ctx), "-f", "-")
		must(t, err)
	}
	ownedBy := func(kind, version string, uid types.UID) string {
		return fmt.Sprintf("ownerReferences: [{apiVersion: %s, kind: %s, name: web, uid: %s, controller: true, blockOwnerDeletion: true}]", version, kind, uid)
	}
	pod := func(app, container string) string {
		return fmt.Sprintf(`
    metadata: {labels: {app: %s}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: mcp
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
%s`, app, container)
	}
	const httpContainer = `
        image: ` + serverImage + `
        args: [-stateless]
        env: [{name: MCP_HOST, value: 0.0.0.0}, {name: MCP_PORT, value: "8080"}]
        readinessProbe: {tcpSocket: {port: 8080}}`
	mcp, container := server("web", serverImage, "args: [-stateless]"), httpContainer
	if g == stdio {
		mcp = strings.Replace(stdioServer, "{name: tools}", "{name: web}", 1)
		container = `
        image: ` + goImage + `
        command: [/everything-server]
        stdin: true`
	}
	create("kubectl-create", strings.Replace(mcp, "{name: web}", "{name: web, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}", 1))
	ofServer := ownedBy("MCPServer", "toolhive.stacklok.dev/v1beta1", mcpServer(ctx, t, "web").UID)
	create("thv-operator", fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  %[1]s
spec:
  selector: {matchLabels: {app: mcpserver}}
  template:%[2]s
---
apiVersion: v1
kind: Service
metadata:
  name: mcp-web-proxy
  %[1]s
spec: {selector: {app: mcpserver}, ports: [{name: http, port: 8080, targetPort: 8080}]}
`, ofServer, pod("mcpserver", httpContainer)))
	apply := func(manifest string) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "apply", "--server-side", "--field-manager=toolhive-container-manager", "-n", in(ctx), "-f", "-")
		must(t, err)
	}
	owner := ""
	if g == sinceAugust {
		owner = ofServer
	}
	apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: web
  labels: {toolhive: "true", toolhive-name: web}
  %s
spec:
  replicas: 1
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:%s`, owner, pod("web", container)))
	if g == stdio {
		return
	}
	apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata:
  name: mcp-web-headless
  %[1]s
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata:
  name: mcp-web
  %[1]s
spec: {selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
`, ownedBy("StatefulSet", "apps/v1", statefulSet(ctx, t, "web").UID)))
	kubectl("scale", "statefulset", "web", "--replicas=2")(ctx, t, nil)
}

// operatorIsScaledTo scales the Deployment of the operator, and waits for its pods.
func operatorIsScaledTo(n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.Kubectl(ctx, "-n", cluster.OperatorNamespace, "scale", "deployment/mcpserver-operator", fmt.Sprint("--replicas=", n))
		must(t, err)
		eventually(ctx, t, "the pods of the operator", func(ctx context.Context) (string, bool) {
			out, err := theCluster.Kubectl(ctx, "-n", cluster.OperatorNamespace, "get", "deployment/mcpserver-operator", "-o", "jsonpath={.status.replicas} {.status.readyReplicas}")
			must(t, err)
			return out, strings.TrimSpace(out) == map[bool]string{true: "", false: fmt.Sprint(n, " ", n)}[n == 0]
		})
	})
}
