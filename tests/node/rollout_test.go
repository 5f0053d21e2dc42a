package node

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestReadyIsTrueOnlyWhenRealPodsAnswer uses servers that take four seconds to listen, so that a Ready condition that is too early shows.
func TestReadyIsTrueOnlyWhenRealPodsAnswer(t *testing.T) {
	manifest := func(image string) string {
		return server("web", image, "args: [-stateless, -ready-after=4s]", "replicas: 2")
	}
	testEnv.Test(t, feature("Ready", "restricted").
		Assess("is never True before the first pods answer", neverReadyTooEarly(serverImage, all(apply(manifest(serverImage)), scaleIs("web", 2)))).
		Assess("is never True in a rollout before the new pods answer", neverReadyTooEarly(nextImage, all(apply(manifest(nextImage)), imageIs("web", nextImage), scaleIs("web", 2)))).
		Assess("is False in a broken rollout, and True after the image is corrected", all(
			apply(server("web", "node.example/absent:1", "replicas: 2")),
			readySays("web", metav1.ConditionFalse, "ImagePullFailed", "node.example/absent:1"),
			apply(manifest(serverImage)), imageIs("web", serverImage), scaleIs("web", 2))).
		Feature())
}

// neverReadyTooEarly runs a step that changes MCPServer "web". It fails if the Ready condition of the new generation is True while a pod
// runs a different image or is not ready.
func neverReadyTooEarly(image string, do features.Func) features.Func {
	return watching(do, func(ctx context.Context, t *testing.T, mcp *v1beta1.MCPServer) {
		if !isReady(mcp) || mcp.Spec.Image != image {
			return
		}
		pods := podsOf(ctx, t, "web")
		if len(pods) < 2 {
			t.Errorf("Ready is True, but %d pods exist", len(pods))
		}
		for _, pod := range pods {
			if pod.Spec.Containers[0].Image != image || !podIsReady(&pod) {
				t.Errorf("Ready is True, but pod %s runs %s and is ready: %t", pod.Name, pod.Spec.Containers[0].Image, podIsReady(&pod))
			}
		}
	})
}

func podIsReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// watching runs a step and calls look for every version of the test's MCPServers, up to their state after the step. It fails if the watch
// reports no MCPServer.
func watching(do features.Func, look func(ctx context.Context, t *testing.T, mcp *v1beta1.MCPServer)) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		var list v1beta1.MCPServerList
		must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
		watcher, err := theCluster.Client.Watch(ctx, &v1beta1.MCPServerList{}, client.InNamespace(in(ctx)),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
		must(t, err)
		seen := make(chan int)
		go func() {
			var count int
			for event := range watcher.ResultChan() {
				if mcp, isMCPServer := event.Object.(*v1beta1.MCPServer); isMCPServer && event.Type != watch.Deleted {
					count++
					look(ctx, t, mcp)
				}
			}
			seen <- count
		}()
		ctx = do(ctx, t, config)
		watcher.Stop()
		if count := <-seen; count == 0 {
			t.Error("the watch reported no MCPServer")
		}
		return ctx
	}
}

// TestTerminatingPodsDoNotCountAsReady uses pods that ignore SIGTERM, as many programs that run as process 1 do. The pods stay ready for
// their whole grace period.
func TestTerminatingPodsDoNotCountAsReady(t *testing.T) {
	var terminating bool
	neverMoreThanAskedFor := func(_ context.Context, t *testing.T, mcp *v1beta1.MCPServer) {
		var ready, wanted int
		if _, err := fmt.Sscanf(mcp.Status.Ready, "%d/%d", &ready, &wanted); err == nil && ready > wanted {
			t.Errorf("status.ready is %s", mcp.Status.Ready)
		}
		terminating = terminating || strings.Contains(show(mcp), "2 pods are terminating, each with a grace period of 8 s")
	}
	manifest := func(image string) string {
		return server("web", image, "args: [-stateless, -ignore-sigterm]", "terminationGracePeriodSeconds: 8")
	}
	testEnv.Test(t, feature("pods that ignore SIGTERM", "restricted").
		Assess("three pods run", all(
			apply(manifest(serverImage)), scaleIs("web", 1), kubectl("scale", "statefulset", "web", "--replicas=3"), scaleIs("web", 3))).
		Assess("after a scale-down, terminating pods do not count as ready", watching(
			all(kubectl("scale", "statefulset", "web", "--replicas=1"), scaleIs("web", 1)), neverMoreThanAskedFor)).
		Assess("the status reported the terminating pods", step(func(_ context.Context, t *testing.T) {
			if !terminating {
				t.Error("no status reported the two terminating pods")
			}
		})).
		Assess("a pod that is being replaced does not count as ready", watching(all(
			kubectl("delete", "pod", "web-0", "--wait=false"),
			readySays("web", metav1.ConditionFalse, "PodsNotReady", "0 of 1 pods are ready", "1 pod is terminating"), scaleIs("web", 1)), neverMoreThanAskedFor)).
		Feature())
}
