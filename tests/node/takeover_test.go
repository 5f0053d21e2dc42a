package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

// TestClientsSurviveTheWayOverFromToolHive: clients keep calling the Service while an MCPServer is taken over. Before, the pod of a proxy
// answers; this test lets a server play the proxy. Afterwards, the pods of the StatefulSet answer. In between, from the moment when the proxy
// stops until this operator has changed the Service, calls fail.
func TestClientsSurviveTheWayOverFromToolHive(t *testing.T) {
	var caller string
	testEnv.Test(t, feature("the way over from ToolHive", "restricted").
		Setup(all(operatorIsScaledTo(0), step(leaveAsToolHive), operatorIsScaledTo(2), step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "two pods of the StatefulSet and the proxy", func(ctx context.Context) (string, bool) {
				set := statefulSet(ctx, t, "web")
				out, err := theCluster.Kubectl(ctx, "-n", in(ctx), "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
				must(t, err)
				return fmt.Sprint(set.Status.ReadyReplicas, " pods"), set.Status.ReadyReplicas == 2 && out == "1"
			})
		}))).
		Assess("a plugin of another minor version refuses", step(func(ctx context.Context, t *testing.T) {
			code, _, stderr, err := theCluster.Plugin(ctx, "1.1.0", "", "takeover", "web", "-n", in(ctx))
			must(t, err)
			if code != 2 || !strings.Contains(stderr, "1.1.0") {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
		})).
		Assess("the proxy answers", step(func(ctx context.Context, t *testing.T) {
			caller = startClient(ctx, t, "web", fmt.Sprintf("-url=http://mcp-web-proxy.%s.svc:8080/mcp", in(ctx)),
				"-count=0", "-for=10m", "-every=200ms", "-timeout=2s", "-fresh")
			answersFrom(ctx, t, caller, func(instance string) bool { return !isOfSet(instance) })
		})).
		Assess("the number of pods stays", holds("web", 2, step(func(ctx context.Context, t *testing.T) {
			stopped := time.Now()
			kubectl("scale", "deployment", "web", "--replicas=0")(ctx, t, nil)
			eventually(ctx, t, "the takeover", func(ctx context.Context) (string, bool) { // the proxy is still stopping
				code, stdout, stderr, err := theCluster.Plugin(ctx, firstVersion, "", "takeover", "web", "-n", in(ctx))
				must(t, err)
				return stdout + stderr, code == 0
			})
			answersFrom(ctx, t, caller, isOfSet)
			t.Logf("clients reached a pod of the StatefulSet %s after the proxy was told to stop", time.Since(stopped).Round(100*time.Millisecond))
		}), scaleIs("web", 2))).
		Assess("clients that keep calling reach the servers", step(func(ctx context.Context, t *testing.T) {
			before, _ := printedBy(ctx, t, caller)
			eventually(ctx, t, "20 more answers", func(ctx context.Context) (string, bool) {
				results, _ := printedBy(ctx, t, caller)
				good := 0
				for _, result := range results[len(before):] {
					if result.OK && isOfSet(result.Instance) {
						good++
					}
				}
				return fmt.Sprint(good), good >= 20
			})
			results, _ := printedBy(ctx, t, caller)
			longest, failing := time.Duration(0), time.Time{}
			for _, result := range results {
				switch {
				case result.OK:
					failing = time.Time{}
				case failing.IsZero():
					failing = result.Start
				default:
					longest = max(longest, result.Start.Sub(failing))
				}
			}
			t.Logf("of %d calls, the longest failure lasted %s", len(results), longest.Round(100*time.Millisecond))
		})).
		Feature())
}

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

// leaveAsToolHive creates an MCPServer with what ToolHive's operator from before August 2026 leaves. A server plays the proxy.
func leaveAsToolHive(ctx context.Context, t *testing.T) {
	t.Helper()
	create := func(manager, manifest string) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, "create", "--field-manager="+manager, "-n", in(ctx), "-f", "-")
		must(t, err)
	}
	create("kubectl-create", strings.Replace(server("web", serverImage, "args: [-stateless]"), "{name: web}",
		"{name: web, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}", 1))
	pod := func(labels string) string {
		return fmt.Sprintf(`
    metadata: {labels: %s}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: mcp
        image: %s
        args: [-stateless]
        env: [{name: MCP_HOST, value: 0.0.0.0}, {name: MCP_PORT, value: "8080"}]
        readinessProbe: {tcpSocket: {port: 8080}}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}`, labels, serverImage)
	}
	create("thv-operator", fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  ownerReferences: [{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: %[1]s, controller: true, blockOwnerDeletion: true}]
spec:
  selector: {matchLabels: {app: mcpserver}}
  template:%[2]s
---
apiVersion: v1
kind: Service
metadata:
  name: mcp-web-proxy
  ownerReferences: [{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: %[1]s, controller: true, blockOwnerDeletion: true}]
spec: {selector: {app: mcpserver}, ports: [{name: http, port: 8080, targetPort: 8080}]}
`, mcpServer(ctx, t, "web").UID, pod("{app: mcpserver}")))
	_, err := theCluster.KubectlWithInput(ctx, `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  replicas: 1
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:`+pod("{app: web}"), "apply", "--server-side", "--field-manager=toolhive-container-manager", "-n", in(ctx), "-f", "-")
	must(t, err)
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
