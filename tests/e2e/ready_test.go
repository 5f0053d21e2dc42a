package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestReadyTellsTheTruth verifies the status that kstatus computes from the conditions. Flux, kpt and others use kstatus. It also
// verifies that the message names the pod and the reason.
func TestReadyTellsTheTruth(t *testing.T) {
	const noSuchNode = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  podTemplateSpec: {spec: {nodeSelector: {disk: none}}}
`
	testEnv.Test(t, feature("Ready").
		Assess("a pod that cannot be scheduled", all(apply(noSuchNode),
			unready("web-0", "Unschedulable", "node affinity/selector"), kstatusIs(status.InProgressStatus))).
		Assess("all pods ready", all(apply(declared(2)), scaleIs(2), kstatusIs(status.CurrentStatus))).
		Assess("a pod that crashes repeatedly", all(
			podWaits("web-1", "CrashLoopBackOff", "back-off 5m0s restarting failed container"),
			unready("1 of 2 pods are ready", "web-1", "CrashLoopBackOff", `container "mcp"`, "back-off"), kstatusIs(status.InProgressStatus),
			phaseIs(v1beta1.PhasePending))).
		Assess("the pod is replaced", all(kubectl("delete", "pod", "web-1"), scaleIs(2), kstatusIs(status.CurrentStatus))).
		Assess("an image that cannot be pulled", all(
			podWaits("web-0", "ImagePullBackOff", "Back-off pulling image"),
			unready("web-0", "ImagePullBackOff", "Back-off pulling image"), kstatusIs(status.InProgressStatus),
			kubectl("delete", "pod", "web-0"), scaleIs(2))).
		Assess("a rollout that is paused halfway", all(
			apply(noSuchNode),
			unready("pods", "web-1", "Unschedulable"), kstatusIs(status.InProgressStatus))).
		Assess("a corrected template finishes the rollout", all(apply(declared(2)), scaleIs(2), kstatusIs(status.CurrentStatus))).
		Assess("an MCPServer that is stopped is Ready", all(apply(declared(0)), scaleIs(0), kstatusIs(status.CurrentStatus), phaseIs(v1beta1.PhaseStopped))).
		Feature())
	testEnv.Test(t, feature("a stalled MCPServer").
		Assess("has failed", all(
			applyAs("another-team", "{apiVersion: v1, kind: Service, metadata: {name: mcp-web-proxy}, spec: {ports: [{port: 80}]}}"),
			apply(undeclared), conditionSays(v1beta1.ConditionStalled, "NotControlled"),
			kstatusIs(status.FailedStatus), phaseIs(v1beta1.PhaseFailed))).
		Feature())
}

// TestReadyIsNeverAheadOfThePods verifies with a watch that no status reports Ready while a pod is not ready. A scheduling gate holds
// each new pod until the test removes it. The generation of the MCPServer does not change during the test.
func TestReadyIsNeverAheadOfThePods(t *testing.T) {
	held := withTemplate("{spec: {schedulingGates: [{name: e2e/held}]}}")
	testEnv.Test(t, feature("Ready, while pods change").
		Assess("one pod", all(apply(held), podIsLetGo("web-0"), scaleIs(1))).
		Assess("two more pods, one after the other", readyOnlyWithAllPods(
			kubectl("scale", "statefulset", server, "--replicas=3"), unready("1 of 3 pods are ready", "web-1", "web-2", "SchedulingGated"),
			podIsLetGo("web-2"), unready("2 of 3 pods are ready", "web-1"), kstatusIs(status.InProgressStatus),
			podIsLetGo("web-1"), scaleIs(3), kstatusIs(status.CurrentStatus))).
		Assess("one pod fails and is being replaced", readyOnlyWithAllPods(
			podWaits("web-1", "CrashLoopBackOff", "back-off 5m0s restarting failed container"), unready("2 of 3 pods are ready", "web-1"),
			kubectl("delete", "pod", "web-1"), unready("2 of 3 pods are ready", "web-1", "SchedulingGated"),
			podIsLetGo("web-1"), scaleIs(3))).
		Feature())
}

// podIsLetGo removes the scheduling gate of a pod, when the pod exists.
func podIsLetGo(name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "no gate of pod "+name, func(ctx context.Context) (string, bool) {
			out, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "pod", name, "--type=json",
				"-p", `[{"op":"remove","path":"/spec/schedulingGates"}]`)
			return out, err == nil
		})
	})
}

// readyOnlyWithAllPods runs steps. It fails if, in the meantime, a status of the MCPServer reports Ready when the StatefulSet, at
// that time, lacks a ready pod.
func readyOnlyWithAllPods(steps ...features.Func) features.Func {
	return func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		t.Helper()
		until, cancel := context.WithTimeout(ctx, watchTimeout)
		defer cancel()
		setWatch, mcpWatch := watchFromNow(until, t, &appsv1.StatefulSetList{}), watchFromNow(until, t, &v1beta1.MCPServerList{})
		defer setWatch.Stop()
		defer mcpWatch.Stop()
		sets, last := []*appsv1.StatefulSet{statefulSet(ctx, t)}, mcpServer(ctx, t)
		ctx = all(steps...)(ctx, t, config)
		sets = append(sets, versionsUntil(t, setWatch, statefulSet(ctx, t))...)
		for _, mcp := range versionsUntil(t, mcpWatch, mcpServer(ctx, t)) {
			if at := versionAt(t, sets, mcp); ready(mcp) && !equality.Semantic.DeepEqual(mcp.Status, last.Status) && !hasAllPods(at) {
				t.Errorf("the MCPServer reports %s, %v, when the StatefulSet declares %d pods and has the status %+v",
					mcp.Status.Ready, mcp.Status.Conditions, replicas(at), at.Status)
			}
			last = mcp
		}
		return ctx
	}
}

func hasAllPods(set *appsv1.StatefulSet) bool {
	return set.Status.ObservedGeneration == set.Generation && set.Status.Replicas == replicas(set) && set.Status.ReadyReplicas == replicas(set)
}

// versionsUntil returns the versions of an object that a watch reports, up to and including the given one.
func versionsUntil[O client.Object](t *testing.T, w watch.Interface, newest O) []O {
	t.Helper()
	var versions []O
	for event := range w.ResultChan() {
		version, is := event.Object.(O)
		if !is {
			t.Fatalf("watching: %v", apierrors.FromObject(event.Object))
		}
		versions = append(versions, version)
		if version.GetResourceVersion() == newest.GetResourceVersion() {
			return versions
		}
	}
	t.Fatalf("the watch ended before version %s", newest.GetResourceVersion())
	return nil
}

// versionAt returns the version of the StatefulSet that was current when the other object was written. The versions are sorted,
// oldest first. The API server uses the same sequence of resource versions for all kinds.
func versionAt(t *testing.T, versions []*appsv1.StatefulSet, other client.Object) *appsv1.StatefulSet {
	t.Helper()
	at := versions[0]
	for _, version := range versions {
		order, err := resourceversion.CompareResourceVersion(version.GetResourceVersion(), other.GetResourceVersion())
		must(t, err)
		if order < 0 {
			at = version
		}
	}
	return at
}

// unready waits until Ready is False with a message that contains all the given words.
func unready(words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("Ready False with %q", words), func(ctx context.Context) (string, bool) {
			mcp := mcpServer(ctx, t)
			condition := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
			return fmt.Sprint(condition), condition != nil && condition.Status == "False" &&
				condition.ObservedGeneration == mcp.Generation && containsAll(condition.Reason+": "+condition.Message, words)
		})
	})
}

// podWaits sets the container of a pod to waiting with a reason, as the kubelet of a real node does.
func podWaits(name, reason, message string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pod's status to be written", func(ctx context.Context) (string, bool) {
			pod := get(ctx, t, name, &corev1.Pod{})
			pod.Status.ContainerStatuses[0].Ready = false
			pod.Status.ContainerStatuses[0].State = corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
			}
			for i := range pod.Status.Conditions {
				if kind := pod.Status.Conditions[i].Type; kind == corev1.PodReady || kind == corev1.ContainersReady {
					pod.Status.Conditions[i].Status = corev1.ConditionFalse
				}
			}
			err := theCluster.Client.Status().Update(ctx, pod)
			return fmt.Sprint(err), err == nil
		})
	})
}

// kstatusIs waits until kstatus computes the given status for the MCPServer.
func kstatusIs(want status.Status) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "kstatus "+string(want), func(ctx context.Context) (string, bool) {
			mcp := mcpServer(ctx, t)
			mcp.GetObjectKind().SetGroupVersionKind(v1beta1.GroupVersion.WithKind("MCPServer"))
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(mcp)
			must(t, err)
			result, err := status.Compute(&unstructured.Unstructured{Object: content})
			must(t, err)
			return string(result.Status) + ": " + result.Message, result.Status == want
		})
	})
}

// phaseIs waits until the MCPServer has the given phase.
func phaseIs(want v1beta1.Phase) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "phase "+string(want), func(ctx context.Context) (string, bool) {
			phase := mcpServer(ctx, t).Status.Phase
			return string(phase), phase == want
		})
	})
}
