package node

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/images/calls"
)

// operatorHasRunner gives the operator a runner until the feature ends.
func operatorHasRunner() features.Func { return operatorIsUpgraded(firstVersion, true) }

// stdioServer is a stdio server, whose program serves nothing but its standard input and output.
const stdioServer = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: tools}
spec: {image: "` + goImage + `", command: [/everything-server]}
`

// everyCallSucceeds fails unless a client has made calls and all have succeeded.
func everyCallSucceeds(t *testing.T, results []calls.Result, summary *calls.Summary) {
	t.Helper()
	succeeded(t, results, summary)
}

// TestAStdioServerScalesAndItsSessionsSurvive verifies that a runner serves a stdio server over HTTP, that a session reaches its pod through a Service without
// affinity, and that sessions go on when their pod is lost.
func TestAStdioServerScalesAndItsSessionsSurvive(t *testing.T) {
	const tool = "-tool=test_simple_text"
	testEnv.Test(t, feature("a stdio server", "restricted").
		Setup(operatorHasRunner()).
		Assess("is served over HTTP", all(apply(stdioServer), scaleIs("tools", 1), aClient("tools", everyCallSucceeds, tool, withSessions, "-count=20"))).
		Assess("scales, and each request of a session finds its pod", all(kubectl("scale", "statefulset", "tools", "--replicas=3"), scaleIs("tools", 3),
			aClient("tools", everyCallSucceeds, tool, withSessions, "-count=60"), aClient("tools", everyCallSucceeds, tool, withSessions, "-count=20", "-fresh"))).
		Assess("a session survives scaling, a lost pod and a rollout", step(func(ctx context.Context, t *testing.T) {
			var clients []string
			for range 6 {
				clients = append(clients, startClient(ctx, t, "tools", tool, withSessions, "-count=0", "-every=200ms", "-for=90s"))
			}
			haveBegun(ctx, t, clients)
			must(t, theCluster.Clients.CoreV1().Pods(in(ctx)).Delete(ctx, "tools-0", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}))
			scaleIs("tools", 3)(ctx, t, nil)
			kubectl("rollout", "restart", "statefulset/tools")(ctx, t, nil)
			kubectl("rollout", "status", "statefulset/tools", "--timeout=120s")(ctx, t, nil)
			kubectl("scale", "statefulset", "tools", "--replicas=1")(ctx, t, nil)
			scaleIs("tools", 1)(ctx, t, nil)
			failed, reopened, total := 0, 0, 0
			for _, pod := range clients {
				hasEnded(ctx, t, pod)
				results, _ := printedBy(ctx, t, pod)
				for i, result := range results {
					total++
					if result.Connected && i > 0 {
						reopened++
					}
					if !result.OK {
						failed++
						t.Logf("a call failed: %+v", result)
					}
				}
				if len(results) < 100 {
					t.Errorf("client %s has made only %d calls", pod, len(results))
				}
			}
			// Each client has one call in progress. Only a call that the killed pod was answering may fail.
			if failed > len(clients) || reopened > failed {
				t.Errorf("%d of %d calls failed, and %d sessions were lost", failed, total, reopened)
			}
			t.Logf("%d of %d calls failed", failed, total)
		})).
		Feature())
}

// haveBegun waits until clients have made a call.
func haveBegun(ctx context.Context, t *testing.T, clients []string) {
	t.Helper()
	eventually(ctx, t, "the first calls", func(ctx context.Context) (string, bool) {
		for _, pod := range clients {
			live := &corev1.Pod{}
			must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: pod}, live))
			if live.Status.Phase != corev1.PodRunning {
				return pod + " is " + string(live.Status.Phase), false
			}
			if results, _ := printedBy(ctx, t, pod); len(results) == 0 {
				return pod + " has made no call", false
			}
		}
		return "", true
	})
}

// hasEnded waits until a client has ended.
func hasEnded(ctx context.Context, t *testing.T, pod string) {
	t.Helper()
	must(t, cluster.EventuallyWithin(ctx, 3*time.Minute, "the client to end", func(ctx context.Context) (string, bool) {
		live := &corev1.Pod{}
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: pod}, live))
		return string(live.Status.Phase), live.Status.Phase == corev1.PodSucceeded || live.Status.Phase == corev1.PodFailed
	}))
}
