package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/images/calls"
)

// withSessions asks for a protocol version that has sessions. The client would use the newest, which has none.
const withSessions = "-protocol=2025-11-25"

// killWindow is the time from the deletion of a pod without a grace period until its containers are dead. Calls that begin later do not reach the pod.
const killWindow = 5 * time.Second

// stdioServerOf is a stdio server of the given command. The argument more contains fields of its spec, in YAML's flow style.
func stdioServerOf(name, image, command string, more ...string) string {
	return fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: %s}\nspec: {%s}\n---\n", name,
		strings.Join(append([]string{"image: " + image, "command: " + command}, more...), ", "))
}

// TestNoSessionEndsWhateverHappensToThePods lets 50 sessions call all the time while the server scales, changes its image, restarts, loses a pod and leaves a
// node. Each session keeps its id from the first call to the last. Only calls that the killed pod was answering may fail.
func TestNoSessionEndsWhateverHappensToThePods(t *testing.T) {
	const sessions = 50
	manifest := func(image string) string { return stdioServerOf("tools", image, "[/everything-server]") }
	testEnv.Test(t, feature("50 sessions", "restricted").
		Setup(operatorHasRunner()).
		Assess("all survive", step(func(ctx context.Context, t *testing.T) {
			all(apply(manifest(goImage)), scaleIs("tools", 1))(ctx, t, nil)
			pod := startClient(ctx, t, "tools", withSessions, "-sessions="+fmt.Sprint(sessions), "-keep", "-tool=test_tool_with_logging", "-count=0",
				"-every=500ms", "-for=15m")
			allCall(ctx, t, pod, sessions)
			during := func(what string, steps ...features.Func) {
				begin := time.Now()
				all(steps...)(ctx, t, nil)
				t.Logf("%s: %s to %s", what, begin.Format(time.TimeOnly), time.Now().Format(time.TimeOnly))
			}
			during("1 → 5", kubectl("scale", "statefulset", "tools", "--replicas=5"), scaleIs("tools", 5))
			during("5 → 2", kubectl("scale", "statefulset", "tools", "--replicas=2"), scaleIs("tools", 2))
			during("another image", apply(manifest(goNext)), imageIs("tools", goNext), scaleIs("tools", 2))
			during("rollout restart", kubectl("rollout", "restart", "statefulset/tools"), kubectl("rollout", "status", "statefulset/tools", "--timeout=120s"), scaleIs("tools", 2))
			victim, owned := "tools-0", sessionsOf(ctx, t, "tools-0")
			if others := sessions - owned; others > owned { // the last pod of a rollout has no session yet
				victim, owned = "tools-1", others
			}
			killed := time.Now()
			during("a killed pod", kill(victim), scaleIs("tools", 2))
			during("a drained node", schedulableAfterwards(), drainNodeOf("tools-0", "tools"), scaleIs("tools", 2))
			allCall(ctx, t, pod, sessions)

			results, _ := printedBy(ctx, t, pod)
			failed := map[int]int{}
			longest := 0.0
			for _, result := range results {
				longest = max(longest, result.Milliseconds)
				if result.Connected && result.Call > 1 {
					t.Errorf("session %d was opened again: %+v", result.Session, result)
				}
				if result.OK {
					continue
				}
				failed[result.Session]++
				end := result.Start.Add(time.Duration(result.Milliseconds * float64(time.Millisecond)))
				if result.Start.After(killed.Add(killWindow)) || end.Before(killed) {
					t.Errorf("a call failed that was not in progress when the pod was killed at %s: %+v", killed.Format(time.StampMilli), result)
				}
				if failed[result.Session] > 1 {
					t.Errorf("session %d has lost more than one call: %+v", result.Session, result)
				}
			}
			// Besides the calls of the sessions of the killed pod, those that it forwarded were in progress on it.
			t.Logf("%d calls in total. %d calls were in progress on the killed pod and failed. The pod had %d of %d sessions. The longest call took %.0f ms",
				len(results), len(failed), owned, sessions, longest)
			endClient(ctx, t, pod)
		})).
		Feature())
}

// memoryCommand is server-memory with a file for each process, so for each session. Without this, the sessions of a pod would share a file.
const memoryCommand = `[/usr/local/bin/node, -e, "process.env.MEMORY_FILE_PATH = '/tmp/' + crypto.randomUUID(); import('/app/node_modules/@modelcontextprotocol/server-memory/dist/index.js')"]`

// TestALostSessionIsNotInvented verifies that a client of a server with state gets an error if its pod is lost and onPodLoss is End. A session never has the
// state of another session, nor goes on without its own.
func TestALostSessionIsNotInvented(t *testing.T) {
	const sessions = 10
	remember := `-opening-args={"entities": [{"name": "session-$SESSION", "entityType": "test", "observations": []}]}`
	own := func(session int) string { return fmt.Sprintf(`"name": "session-%d"`, session) }
	testEnv.Test(t, feature("sessions with state", "restricted").
		Setup(operatorHasRunner()).
		Assess("end with their pod", step(func(ctx context.Context, t *testing.T) {
			all(apply(stdioServerOf("memory", packagesImage, memoryCommand, "replicas: 2", "sessions: {onPodLoss: End}")), scaleIs("memory", 2))(ctx, t, nil)
			pod := startClient(ctx, t, "memory", withSessions, "-sessions="+fmt.Sprint(sessions), "-keep", "-opening-tool=create_entities", remember,
				"-tool=read_graph", "-count=0", "-every=500ms", "-for=10m")
			allCall(ctx, t, pod, sessions)
			owned := sessionsOf(ctx, t, "memory-0")
			if owned == 0 || owned == sessions {
				t.Fatalf("the pod has %d of %d sessions", owned, sessions)
			}
			all(kill("memory-0"), scaleIs("memory", 2))(ctx, t, nil)
			allCall(ctx, t, pod, sessions)

			results, _ := printedBy(ctx, t, pod)
			ended := map[int]string{}
			for _, result := range results {
				why, hasEnded := ended[result.Session]
				switch {
				case result.OK && hasEnded:
					t.Errorf("session %d goes on after %s: %+v", result.Session, why, result)
				case result.OK && (!strings.Contains(result.Text, own(result.Session)) || strings.Count(result.Text, `"name": `) != 1):
					t.Errorf("session %d has the state %s", result.Session, result.Text)
				case !result.OK && !hasEnded:
					ended[result.Session] = result.Error
					t.Logf("session %d: %s", result.Session, result.Error)
				}
			}
			if len(ended) != owned {
				t.Errorf("%d sessions have ended, and the killed pod had %d", len(ended), owned)
			}
			endClient(ctx, t, pod)
		})).
		Assess("and a new session has no state of another", aClient("memory", func(t *testing.T, results []calls.Result, _ *calls.Summary) {
			t.Helper()
			for _, result := range results {
				if !result.OK || strings.Contains(result.Text, `"name": `) {
					t.Errorf("got %+v", result)
				}
			}
		}, withSessions, "-tool=read_graph", "-count=10", "-fresh")).
		Feature())
}

// TestServersOfTheProtocolsAuthorsRunOverStdio verifies that published servers work with sessions and two pods. Their image has no command.
func TestServersOfTheProtocolsAuthorsRunOverStdio(t *testing.T) {
	servers := feature("published stdio servers", "restricted").Setup(operatorHasRunner())
	for _, row := range []struct{ name, argument, tool, args, want string }{
		{"everything", "", "echo", `{"message": "hello"}`, "Echo: hello"},
		{"filesystem", ", /tmp", "list_allowed_directories", "{}", "/tmp"},
		{"memory", "", "read_graph", "{}", "entities"},
	} {
		command := "[/usr/local/bin/node, /app/node_modules/@modelcontextprotocol/server-" + row.name + "/dist/index.js" + row.argument + "]"
		servers.Assess("server-"+row.name, all(
			apply(stdioServerOf(row.name, packagesImage, command, "replicas: 2", "env: [{name: MEMORY_FILE_PATH, value: /tmp/memory.jsonl}]")), scaleIs(row.name, 2),
			aClient(row.name, func(t *testing.T, results []calls.Result, summary *calls.Summary) {
				t.Helper()
				succeeded(t, results, summary)
				if last := results[len(results)-1]; !strings.Contains(last.Text, row.want) {
					t.Errorf("the answer is %q, want %q", last.Text, row.want)
				}
			}, withSessions, "-sessions=4", "-tool="+row.tool, "-args="+row.args, "-count=10")))
	}
	testEnv.Test(t, servers.Feature())
}

// allCall waits until each session of a client has completed two calls that began after now.
func allCall(ctx context.Context, t *testing.T, pod string, sessions int) {
	t.Helper()
	since := time.Now()
	eventually(ctx, t, "calls of all sessions", func(ctx context.Context) (string, bool) {
		live := get(ctx, t, pod, &corev1.Pod{})
		if live.Status.Phase != corev1.PodRunning {
			return "the client is " + string(live.Status.Phase), false
		}
		count := map[int]int{}
		results, _ := printedBy(ctx, t, pod)
		for _, result := range results {
			if result.Start.After(since) {
				count[result.Session]++
			}
		}
		calling := 0
		for _, calls := range count {
			if calls > 1 {
				calling++
			}
		}
		return fmt.Sprintf("%d of %d sessions call", calling, sessions), calling == sessions
	})
}

// endClient deletes a client.
func endClient(ctx context.Context, t *testing.T, pod string) {
	t.Helper()
	must(t, theCluster.Client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: in(ctx), Name: pod}}, client.GracePeriodSeconds(1)))
}

// kill deletes a pod without a grace period, so that its containers get SIGKILL, and waits until another pod has its place.
func kill(pod string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		killed := get(ctx, t, pod, &corev1.Pod{}).UID
		must(t, theCluster.Clients.CoreV1().Pods(in(ctx)).Delete(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}))
		eventually(ctx, t, "another pod "+pod, func(ctx context.Context) (string, bool) {
			live := get(ctx, t, pod, &corev1.Pod{})
			return string(live.Status.Phase), live.UID != "" && live.UID != killed && podIsReady(live)
		})
	})
}

// drainNodeOf drains the node of a pod, as far as pods of an MCPServer are concerned.
func drainNodeOf(pod, name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		clusterKubectl("drain", get(ctx, t, pod, &corev1.Pod{}).Spec.NodeName, "--delete-emptydir-data", // it has the program of the runner
			"--pod-selector=app.kubernetes.io/instance="+name, "--timeout=150s")(ctx, t, nil)
	})
}

// sessionsOf returns the number of sessions of a pod.
func sessionsOf(ctx context.Context, t *testing.T, pod string) int {
	t.Helper()
	sessions, found := metricOf(ctx, t, pod, "mcp_runner_sessions")
	if !found {
		t.Fatal("the metrics have no number of sessions")
	}
	return sessions
}

// metricOf returns the value of a metric of the runner of a pod, and false if the runner does not have it.
func metricOf(ctx context.Context, t *testing.T, pod, series string) (value int, found bool) {
	t.Helper()
	metrics, err := theCluster.Clients.CoreV1().RESTClient().Get().Namespace(in(ctx)).Resource("pods").Name(pod + ":9464").SubResource("proxy").
		Suffix("metrics").DoRaw(ctx)
	must(t, err)
	for line := range strings.Lines(string(metrics)) {
		if number, isIt := strings.CutPrefix(line, series+" "); isIt {
			_, err := fmt.Sscan(number, &value)
			must(t, err)
			return value, true
		}
	}
	return 0, false
}
