package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/images/calls"
	"mcpserver-operator/tests/steps"
)

// What all suites of features share.
var (
	in             = steps.In
	step           = steps.Step
	all            = steps.All
	afterwards     = steps.Afterwards
	kubectl        = steps.Kubectl
	clusterKubectl = steps.ClusterKubectl
	clusterApply   = steps.ClusterApply
	must           = cluster.Must
)

// feature starts a feature in a new namespace, which enforces a Pod Security Standard.
func feature(name, standard string) *features.FeatureBuilder {
	return steps.Feature(theCluster, name, "node-", standard)
}

// server returns the manifest of an MCPServer with an image. The argument more contains fields of its spec, in YAML's flow style.
func server(name, image string, more ...string) string {
	fields := append([]string{"image: " + image, "transport: streamable-http"}, more...)
	return fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: %s}\nspec: {%s}\n---\n",
		name, strings.Join(fields, ", "))
}

// apply applies manifests as a user.
func apply(manifests ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, strings.Join(manifests, "\n---\n"),
			"apply", "--server-side", "--force-conflicts", "-n", in(ctx), "-f", "-")
		must(t, err)
	})
}

// scaleIs waits until an MCPServer has n pods, all are ready, and the status reports this.
func scaleIs(name string, n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d ready pods of %s", n, name), func(ctx context.Context) (string, bool) {
			mcp, set := mcpServer(ctx, t, name), statefulSet(ctx, t, name)
			return show(mcp), ptr.Deref(set.Spec.Replicas, -1) == n && set.Status.Replicas == n &&
				mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) && isReady(mcp)
		})
	})
}

// readySays waits until the Ready condition has the given status and reason, and a message that contains all the given words.
func readySays(name string, status metav1.ConditionStatus, reason string, words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%s Ready %s with reason %s and %q", name, status, reason, words),
			func(ctx context.Context) (string, bool) {
				mcp := mcpServer(ctx, t, name)
				ready := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
				return show(mcp), ready != nil && ready.Status == status && ready.Reason == reason &&
					!slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(ready.Message, word) })
			})
	})
}

// holds runs steps. It fails if the StatefulSet has a scale other than n at any time from before the first step until after the last.
func holds(name string, n int32, steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		recorder, err := theCluster.RecordScale(ctx, client.ObjectKey{Namespace: in(ctx), Name: name})
		must(t, err)
		ctx = all(steps...)(ctx, t, config)
		seen, err := recorder.Stop(ctx)
		must(t, err)
		if !slices.Equal(seen, []int32{n}) {
			t.Fatalf("the scale of %s must stay at %d, but was %v", name, n, seen)
		}
		return ctx
	}
}

// noPodRestarts runs steps. It fails if they replace a pod of an MCPServer or restart one of its containers.
func noPodRestarts(name string, steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		before := identities(ctx, t, name)
		ctx = all(steps...)(ctx, t, config)
		if after := identities(ctx, t, name); !slices.Equal(before, after) {
			t.Fatalf("the pods of %s were %v and are %v", name, before, after)
		}
		return ctx
	}
}

// identities returns the pods of an MCPServer with their UIDs and container restarts.
func identities(ctx context.Context, t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, pod := range podsOf(ctx, t, name) {
		restarts := int32(0)
		for _, status := range pod.Status.ContainerStatuses {
			restarts += status.RestartCount
		}
		all = append(all, fmt.Sprintf("%s %s %d", pod.Name, pod.UID, restarts))
	}
	return all
}

// podsOf returns the pods of an MCPServer, sorted by name.
func podsOf(ctx context.Context, t *testing.T, name string) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx)), client.MatchingLabels{"app.kubernetes.io/instance": name}))
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods.Items
}

// aClient runs a client pod until it has made its calls, and passes its output to look. The client calls the URL in the status of the
// MCPServer, unless the arguments contain a different URL.
func aClient(name string, look func(t *testing.T, results []calls.Result, summary *calls.Summary), args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		pod := startClient(ctx, t, name, args...)
		eventually(ctx, t, "the client to end", func(ctx context.Context) (string, bool) {
			live := &corev1.Pod{}
			must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: pod}, live))
			return string(live.Status.Phase), live.Status.Phase == corev1.PodSucceeded || live.Status.Phase == corev1.PodFailed
		})
		results, summary := printedBy(ctx, t, pod)
		if summary == nil {
			t.Fatalf("the client printed no summary, only %v", results)
		}
		look(t, results, summary)
	})
}

// startClient starts a client pod and returns its name.
func startClient(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	args = append([]string{"-url=" + mcpServer(ctx, t, name).Status.URL}, args...)
	return startPod(ctx, t, corev1.Container{Name: "client", Image: clientImage, Args: args})
}

// startPod starts a pod with one container, which runs once, and returns its name.
func startPod(ctx context.Context, t *testing.T, container corev1.Container) string {
	t.Helper()
	container.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: in(ctx), GenerateName: "client-"},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			NodeSelector:                 map[string]string{corev1.LabelHostname: "node-1"}, // tests drain and stop node-2
			AutomountServiceAccountToken: ptr.To(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{container},
		},
	}
	must(t, theCluster.Client.Create(ctx, pod))
	return pod.Name
}

// logOf returns the output of a pod so far.
func logOf(ctx context.Context, t *testing.T, pod string) []byte {
	t.Helper()
	log, err := theCluster.Clients.CoreV1().Pods(in(ctx)).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	must(t, err)
	return log
}

// printedBy returns the output of a client pod so far.
func printedBy(ctx context.Context, t *testing.T, pod string) ([]calls.Result, *calls.Summary) {
	t.Helper()
	results, summary, err := calls.Parse(logOf(ctx, t, pod))
	must(t, err)
	return results, summary
}

// succeeded fails unless every call succeeded.
func succeeded(t *testing.T, results []calls.Result, _ *calls.Summary) {
	t.Helper()
	for _, result := range results {
		if !result.OK {
			t.Fatalf("a call failed: %+v", result)
		}
	}
	if len(results) == 0 {
		t.Fatal("no call was made")
	}
}

// call calls a tool once and decodes the response.
func call(name, tool string, arguments, answer any) features.Func {
	encoded, err := json.Marshal(arguments)
	if err != nil {
		panic(err)
	}
	return aClient(name, func(t *testing.T, results []calls.Result, summary *calls.Summary) {
		t.Helper()
		succeeded(t, results, summary)
		if answer == nil {
			return
		}
		if err := json.Unmarshal([]byte(results[0].Text), answer); err != nil {
			t.Fatalf("the tool %s returned %q: %v", tool, results[0].Text, err)
		}
	}, "-tool="+tool, "-args="+string(encoded))
}

func mcpServer(ctx context.Context, t *testing.T, name string) *v1beta1.MCPServer {
	t.Helper()
	return get(ctx, t, name, &v1beta1.MCPServer{})
}

func statefulSet(ctx context.Context, t *testing.T, name string) *appsv1.StatefulSet {
	t.Helper()
	return get(ctx, t, name, &appsv1.StatefulSet{})
}

// get reads an object. If the object does not exist, get returns it unchanged.
func get[O client.Object](ctx context.Context, t *testing.T, name string, object O) O {
	t.Helper()
	err := theCluster.Client.Get(ctx, types.NamespacedName{Namespace: in(ctx), Name: name}, object)
	if !apierrors.IsNotFound(err) {
		must(t, err)
	}
	return object
}

// isReady reports whether an MCPServer is Ready in its current generation.
func isReady(mcp *v1beta1.MCPServer) bool {
	ready := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == mcp.Generation
}

// show formats an MCPServer for failure messages.
func show(mcp *v1beta1.MCPServer) string {
	ready := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
	if ready == nil {
		return "no condition Ready"
	}
	return fmt.Sprintf("%s, Ready is %s: %s: %s", mcp.Status.Ready, ready.Status, ready.Reason, ready.Message)
}

// patience limits how long eventually waits. Containers of other tests may start at the same time.
const patience = 3 * time.Minute

func eventually(ctx context.Context, t *testing.T, what string, is func(context.Context) (string, bool)) {
	t.Helper()
	must(t, cluster.EventuallyWithin(ctx, patience, what, is))
}
