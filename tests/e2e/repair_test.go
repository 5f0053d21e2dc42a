package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// Pods with these images wait for podIsLetGo, which simulates a pull of the image. Pods with the broken image are never let go.
const (
	goodImage   = "registry.example/server:1"
	brokenImage = "registry.example/server:no-such-tag"
	fixedImage  = "registry.example/server:2"
)

// TestABrokenRolloutIsRepairedByFixingTheImage verifies that nobody has to delete a pod, as with OrderedReady (kubernetes#67250), and
// that serving pods stay until their successors serve. Since Kubernetes 1.37, maxUnavailable pods are replaced at a time. Earlier
// versions replace one at a time, because the API server drops the field.
func TestABrokenRolloutIsRepairedByFixingTheImage(t *testing.T) {
	testEnv.Test(t, feature("a rollout to a broken image").
		Assess("three pods are ready", all(apply(held(goodImage, "")), podsAreLetGo(0, 1, 2), scaleIs(3))).
		Assess("the rollout stops at the first pod", all(apply(held(brokenImage, "")),
			images(goodImage, goodImage, brokenImage), unready("of 3 pods", "web-2"))).
		Assess("the fixed image replaces that pod first", all(apply(held(fixedImage, "")),
			images(goodImage, goodImage, fixedImage))).
		Assess("the other pods follow, one after the other", all(
			podsAreLetGo(2), images(goodImage, fixedImage, fixedImage),
			podsAreLetGo(1), images(fixedImage, fixedImage, fixedImage),
			podsAreLetGo(0), scaleIs(3), imageIs(fixedImage))).
		Feature())

	// Before 1.37, the StatefulSet controller replaces the pod with the highest ordinal, although another pod is not ready
	// (kubernetes/kubernetes#96218). Since 1.37, it replaces the pod that is not ready first.
	several, err := theCluster.IsAtLeast("1.37")
	must(t, err)
	second := images(goodImage, goodImage, fixedImage)
	if several {
		second = images(fixedImage, goodImage, goodImage)
	}
	testEnv.Test(t, feature("a rollout that begins while a pod is not ready").
		Assess("two of three pods are ready", all(apply(held(goodImage, "")), podsAreLetGo(1, 2), podsAreReadyOf(2))).
		Assess("the rollout replaces one pod", all(apply(held(fixedImage, "")), second, holds(3, passesAreForced(2)), second)).
		Feature())

	const two = "\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}"
	brokenToo, fixedToo := goodImage, goodImage
	if several {
		brokenToo, fixedToo = brokenImage, fixedImage
	}
	testEnv.Test(t, feature("a rollout to a broken image, with maxUnavailable").
		Assess("three pods are ready", all(apply(held(goodImage, two)), podsAreLetGo(0, 1, 2), scaleIs(3))).
		Assess("maxUnavailable is applied, or dropped by the API server", maxUnavailableIs(several)).
		Assess("the rollout stops at maxUnavailable pods", all(apply(held(brokenImage, two)),
			images(goodImage, brokenToo, brokenImage), unready("of 3 pods", "web-2"))).
		Assess("the fixed image replaces those pods first", all(apply(held(fixedImage, two)),
			images(goodImage, fixedToo, fixedImage))).
		Assess("the other pod follows", all(
			podsAreLetGo(2), podIsLetGoOf("web-1", fixedImage), podIsLetGoOf("web-0", fixedImage), scaleIs(3), imageIs(fixedImage))).
		Assess("a field that the API server drops is not written again", writesNothing(passesAreForced(3))).
		Feature())
}

// held returns a manifest with three pods that wait to be let go. The argument more is appended to its spec.
func held(image, more string) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: %q
  replicas: 3
  podTemplateSpec: {spec: {schedulingGates: [{name: e2e/held}]}}%s
`, image, more)
}

// podsAreLetGo removes the scheduling gates of pods, by ordinal.
func podsAreLetGo(ordinals ...int) features.Func {
	var steps []features.Func
	for _, ordinal := range ordinals {
		steps = append(steps, podIsLetGo(fmt.Sprintf("%s-%d", server, ordinal)))
	}
	return all(steps...)
}

// podIsLetGoOf is podIsLetGo for a pod that runs the given image. It ignores an earlier pod with the same name.
func podIsLetGoOf(name, image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "pod "+name+" with "+image, func(ctx context.Context) (string, bool) {
			pod := get(ctx, t, name, &corev1.Pod{})
			if len(pod.Spec.Containers) == 0 {
				return "absent", false
			}
			return pod.Spec.Containers[0].Image, pod.Spec.Containers[0].Image == image
		})
		podIsLetGo(name)(ctx, t, nil)
	})
}

// images waits until the pods, in order of their ordinals, run the given images and none is being deleted.
func images(want ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("the images %q", want), func(ctx context.Context) (string, bool) {
			var pods corev1.PodList
			must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx)))) // sorted by name
			var got []string
			for _, pod := range pods.Items {
				if pod.DeletionTimestamp.IsZero() {
					got = append(got, pod.Spec.Containers[0].Image)
				}
			}
			return strings.Join(got, " "), strings.Join(got, " ") == strings.Join(want, " ")
		})
	})
}

// maxUnavailableIs fails unless maxUnavailable of the StatefulSet is 2 (kept), or unset (not kept).
func maxUnavailableIs(kept bool) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		got := statefulSet(ctx, t).Spec.UpdateStrategy.RollingUpdate.MaxUnavailable
		if kept != (got != nil && got.IntValue() == 2) {
			t.Fatalf("maxUnavailable is %v", got)
		}
	})
}

// podsAreReadyOf waits until the StatefulSet has n ready pods, of any number.
func podsAreReadyOf(n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d ready pods", n), func(ctx context.Context) (string, bool) {
			ready := statefulSet(ctx, t).Status.ReadyReplicas
			return fmt.Sprint(ready), ready == n
		})
	})
}
