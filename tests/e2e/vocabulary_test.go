package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/steps"
)

// server is the name of the MCPServer in each test.
const server = "web"

// undeclared and declared are manifests of the MCPServer of a test.
const undeclared = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1"}
`

func declared(replicas int32) string { return declaredWith(replicas, v1beta1.ReplicasConflictYield) }

func declaredWith(replicas int32, policy v1beta1.ReplicasConflictPolicy) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", replicas: %d, replicasConflictPolicy: %s}
`, replicas, policy)
}

// withTemplate returns a manifest with a podTemplateSpec.
func withTemplate(template string) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", podTemplateSpec: %s}
`, template)
}

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

// feature starts a feature in a new namespace. When it ends, the operator of the suite runs, even if the feature has failed while it was stopped or replaced.
func feature(name string) *features.FeatureBuilder {
	return steps.Feature(theCluster, name, "e2e-", "restricted", suiteOperatorRuns()).Setup(step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, "the default ServiceAccount of the namespace", func(ctx context.Context) (string, bool) {
			account := get(ctx, t, "default", &corev1.ServiceAccount{})
			return account.Name, account.UID != ""
		})
	}))
}

// apply applies a manifest as a user. The user also takes back the image that imageChanges has patched.
func apply(manifest string) features.Func {
	return applyWith(func(context.Context) string { return manifest })
}

// applyWith applies a manifest that depends on the namespace of the test.
func applyWith(manifest func(ctx context.Context) string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest(ctx),
			"apply", "--server-side", "--force-conflicts", "-n", in(ctx), "-f", "-")
		must(t, err)
	})
}

// applyForcedAs applies a manifest with a different field manager and forces conflicts.
func applyForcedAs(manager, manifest string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest,
			"apply", "--server-side", "--force-conflicts", "--field-manager="+manager, "-n", in(ctx), "-f", "-")
		must(t, err)
	})
}

// applyAs applies a manifest with a different field manager. It does not force conflicts.
func applyAs(manager, manifest string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest,
			"apply", "--server-side", "--field-manager="+manager, "-n", in(ctx), "-f", "-")
		must(t, err)
	})
}

// scaleIs waits until the StatefulSet has n replicas, all pods are ready, and the MCPServer reports this.
func scaleIs(n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d replicas, all ready", n), func(ctx context.Context) (string, bool) {
			set, mcp := statefulSet(ctx, t), mcpServer(ctx, t)
			state := fmt.Sprintf("StatefulSet %d (%d ready), MCPServer %s, conditions %v",
				replicas(set), set.Status.ReadyReplicas, mcp.Status.Ready, mcp.Status.Conditions)
			return state, replicas(set) == n && set.Status.ReadyReplicas == n && set.Status.Replicas == n &&
				mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) && ready(mcp)
		})
	})
}

// podsAreReady waits until the StatefulSet has n ready pods. It ignores the status of the MCPServer.
func podsAreReady(n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d ready pods", n), func(ctx context.Context) (string, bool) {
			set := statefulSet(ctx, t)
			return fmt.Sprintf("%+v", set.Status), replicas(set) == n && set.Status.ReadyReplicas == n && set.Status.Replicas == n
		})
	})
}

// holds runs steps. It fails if the StatefulSet has a scale other than n at any time from before the first step until after the last.
func holds(n int32, steps ...features.Func) features.Func { return scaleGoes([]int32{n}, steps...) }

// scaleGoes runs steps. It fails unless the StatefulSet has exactly the given scales, in order, from before the first step until after
// the last. A watch reports every change in between.
func scaleGoes(scales []int32, steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		recorder, err := theCluster.RecordScale(ctx, client.ObjectKey{Namespace: in(ctx), Name: server})
		must(t, err)
		ctx = all(steps...)(ctx, t, config)
		seen, err := recorder.Stop(ctx)
		must(t, err)
		if !slices.Equal(seen, scales) {
			t.Fatalf("want the scales %v, in order, got %v", scales, seen)
		}
		return ctx
	}
}

// everythingThatMustNotMoveTheScale forces ten passes, changes the image, and restarts the operator.
func everythingThatMustNotMoveTheScale() features.Func {
	return all(passesAreForced(10), imageChanges("registry.example/server:2"), operatorRestarts(), passesAreForced(1))
}

// passesAreForced changes the MCPServer and waits for the resulting pass. It repeats this the given number of times.
func passesAreForced(times int) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for i := range times {
			mark, err := operator.LogMark()
			must(t, err)
			_, err = theCluster.Kubectl(ctx, "-n", in(ctx), "annotate", "mcpserver", server, "--overwrite",
				fmt.Sprintf("e2e/touched=%d-%d", time.Now().UnixNano(), i))
			must(t, err)
			must(t, operator.WaitForPassOver(ctx, mark, in(ctx)))
		}
	})
}

// imageChanges changes the image and waits until the pods run the new image.
func imageChanges(image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "mcpserver", server, "--type=merge",
			"-p", fmt.Sprintf(`{"spec":{"image":%q}}`, image))
		must(t, err)
		imageIs(image)(ctx, t, nil)
	})
}

// imageIs waits until every pod runs an image.
func imageIs(image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pods run "+image, func(ctx context.Context) (string, bool) {
			var pods corev1.PodList
			must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx))))
			var images []string
			done := int32(len(pods.Items)) == replicas(statefulSet(ctx, t))
			for _, pod := range pods.Items {
				images = append(images, pod.Spec.Containers[0].Image)
				done = done && pod.Spec.Containers[0].Image == image
			}
			return strings.Join(images, " "), done && ready(mcpServer(ctx, t))
		})
	})
}

func operatorRestarts() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, operator.Restart(ctx))
	})
}

// operatorStops stops the operator until operatorStarts, or until the feature ends.
func operatorStops() features.Func {
	return step(func(_ context.Context, t *testing.T) {
		t.Helper()
		must(t, operator.Stop())
	})
}

func operatorStarts() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, operator.Start(ctx))
	})
}

// operatorIsReplaced stops the operator and starts another until the feature ends.
func operatorIsReplaced(start func(ctx context.Context) (*cluster.Operator, error)) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, operator.Stop())
		other, err := start(ctx)
		must(t, err)
		operator = other
	})
}

// suiteOperatorRuns stops an operator that has replaced that of the suite, and starts that of the suite unless it runs.
func suiteOperatorRuns() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if operator.Crashed() {
			t.Errorf("the operator has ended by itself, see %s", operator.LogFile())
		}
		if operator != suiteOperator {
			if err := operator.Stop(); err != nil {
				t.Error(err)
			}
			operator = suiteOperator
		}
		if !operator.Running() {
			must(t, operator.Start(ctx))
		}
	})
}

// operatorDoesNotOwnTheScale waits until managedFields of the StatefulSet do not assign spec.replicas to the operator. The operator releases the scale of a
// StatefulSet that it has created in a request of its own, which it repeats after a conflict.
func operatorDoesNotOwnTheScale() features.Func { return operatorIsOwnerOfScale(false) }

// operatorOwnsTheScale waits until managedFields of the StatefulSet assign spec.replicas to the operator.
func operatorOwnsTheScale() features.Func { return operatorIsOwnerOfScale(true) }

func operatorIsOwnerOfScale(want bool) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("the operator to own spec.replicas: %t", want), func(ctx context.Context) (string, bool) {
			owns := ownsScale(ctx, t)
			return fmt.Sprint(owns), owns == want
		})
	})
}

func ownsScale(ctx context.Context, t *testing.T) bool {
	t.Helper()
	owners, err := ownership.OwnersOf(statefulSet(ctx, t), fieldpath.MakePathOrDie("spec", "replicas"))
	must(t, err)
	return slices.ContainsFunc(owners, func(o ownership.Owner) bool { return o.Name == applyconfigs.FieldManager })
}

// conditionSays waits for a condition that is True and whose message contains all the given words.
func conditionSays(conditionType, reason string, words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("condition %s with reason %s and %q", conditionType, reason, words),
			func(ctx context.Context) (string, bool) {
				condition := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, conditionType)
				if condition == nil {
					return "absent", false
				}
				return condition.Reason + ": " + condition.Message, condition.Status == metav1.ConditionTrue &&
					condition.Reason == reason && containsAll(condition.Message, words)
			})
	})
}

// conditionIsGone waits until a condition is absent, after a pass: before the pass, the operator may not have reported the condition yet.
func conditionIsGone(conditionType string) features.Func {
	return all(passesAreForced(1), step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "no condition "+conditionType, func(ctx context.Context) (string, bool) {
			condition := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, conditionType)
			return fmt.Sprint(condition), condition == nil
		})
	}))
}

// eventSays waits for an event on the MCPServer whose note contains all the given words.
func eventSays(reason string, words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("an event %s with %q", reason, words), func(ctx context.Context) (string, bool) {
			notes := eventNotes(ctx, t)
			return strings.Join(notes, "\n"), slices.ContainsFunc(notes, func(note string) bool {
				return strings.HasPrefix(note, reason+": ") && containsAll(note, words)
			})
		})
	})
}

// eventNotes returns the events on the MCPServer, each as REASON: NOTE.
func eventNotes(ctx context.Context, t *testing.T) []string {
	t.Helper()
	list, err := theCluster.Clients.EventsV1().Events(in(ctx)).List(ctx, metav1.ListOptions{})
	must(t, err)
	var notes []string
	for _, event := range list.Items {
		if event.Regarding.Kind == "MCPServer" {
			notes = append(notes, event.Reason+": "+event.Note)
		}
	}
	return notes
}

// printed runs kubectl and fails unless its output contains all the given words.
func printed(words []string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.Kubectl(ctx, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
		if !containsAll(out, words) {
			t.Fatalf("kubectl %s must print %q, but printed:\n%s", strings.Join(args, " "), words, out)
		}
	})
}

func statefulSet(ctx context.Context, t *testing.T) *appsv1.StatefulSet {
	t.Helper()
	return get(ctx, t, server, &appsv1.StatefulSet{})
}

func mcpServer(ctx context.Context, t *testing.T) *v1beta1.MCPServer {
	t.Helper()
	return get(ctx, t, server, &v1beta1.MCPServer{})
}

// get reads an object. If the object does not exist, get returns it unchanged.
func get[O client.Object](ctx context.Context, t *testing.T, name string, object O) O {
	t.Helper()
	must(t, client.IgnoreNotFound(theCluster.Client.Get(ctx, client.ObjectKey{Namespace: in(ctx), Name: name}, object)))
	return object
}

func replicas(set *appsv1.StatefulSet) int32 {
	if set.Spec.Replicas == nil {
		return -1
	}
	return *set.Spec.Replicas
}

// ready reports whether the MCPServer is Ready in its current generation.
func ready(mcp *v1beta1.MCPServer) bool {
	condition := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == mcp.Generation
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// eventually fails if a condition does not become true. The failure contains the last observed state.
func eventually(ctx context.Context, t *testing.T, what string, is func(context.Context) (string, bool)) {
	t.Helper()
	must(t, cluster.Eventually(ctx, what, is))
}
