package autoscaling

import (
	"fmt"
	"slices"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// toZero is an MCPServer without replicas, with an autoscaler of 0 to 3 pods: one pod for each 10 waiting calls.
const toZero = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: autoscaled}
spec: {image: "registry.example/mcp/search:1.0", transport: streamable-http}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: autoscaled}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: autoscaled}
  minReplicas: 0
  maxReplicas: 3
  metrics:
  - type: External
    external: {metric: {name: ` + waitingCalls + `}, target: {type: AverageValue, averageValue: "10"}}
`

// TestAnAutoscalerScalesToZeroAndBack: HPAScaleToZero is enabled by default since Kubernetes 1.37. Only the autoscaler changes the scale,
// including to and from 0. If a person scales to 0, the scale stays 0. The status distinguishes the two cases.
func TestAnAutoscalerScalesToZeroAndBack(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	metrics := serveExternalMetrics(t)
	metrics.set(15)
	apply(t, namespace, toZero)
	isReady(t, namespace, 2, "1.0")
	recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
	must(t, err)
	mark, err := theCluster.AuditMark()
	must(t, err)

	metrics.set(0)
	isAtZero(t, namespace, v1beta1.PhaseReady, "Idle", "scaled to 0 by HorizontalPodAutoscaler/autoscaled, which scales it up again when its metrics require it: no pod runs")
	scaledToZeroIs(t, namespace, corev1.ConditionTrue)
	apply(t, namespace, toZero) // a second apply declares nothing
	kubectl(t, namespace, "annotate", "mcpserver/"+server, "example.com/touched=yes")
	metrics.set(25)
	isReady(t, namespace, 3, "1.0")
	scaledToZeroIs(t, namespace, corev1.ConditionFalse)

	kubectl(t, namespace, "scale", "statefulset/"+server, "--replicas=0")
	isAtZero(t, namespace, v1beta1.PhaseStopped, "ScaledToZero", "HorizontalPodAutoscaler/autoscaled does not scale up from a 0 that it did not set. "+
		"To start the server, run: kubectl -n "+namespace+" scale statefulset autoscaled --replicas=1")
	stays(t, namespace, metrics)
	kubectl(t, namespace, "scale", "statefulset/"+server, "--replicas=1") // the command in the message
	isReady(t, namespace, 3, "1.0")

	scales, err := recorder.Stop(t.Context())
	must(t, err)
	if !slices.Equal(scales, []int32{2, 0, 3, 0, 1, 3}) {
		t.Errorf("unexpected sequence of scales %v", scales)
	}
	if writes := scaleWrites(t, mark, namespace, "statefulsets"); writes != 3 {
		t.Errorf("the autoscaler wrote the scale %d times", writes)
	}
	operatorWritesNoStatefulSet(t, mark, namespace)
}

// isAtZero waits until the MCPServer is Ready without pods, with the given phase, reason and message.
func isAtZero(t *testing.T, namespace string, phase v1beta1.Phase, reason, message string) {
	t.Helper()
	eventually(t, "0 pods, "+reason, func() (string, bool) {
		mcp := get(t, namespace, &v1beta1.MCPServer{})
		ready := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
		state, _ := scaleIs(t, namespace, 0)
		return fmt.Sprintf("%s, %s, %v, %s", mcp.Status.Phase, mcp.Status.Ready, ready, state),
			mcp.Status.Ready == "0/0" && mcp.Status.Phase == phase && ready != nil && ready.Status == metav1.ConditionTrue &&
				ready.Reason == reason && (ready.Message == message || ready.Message == "scaled to 0: no pod runs. "+message)
	})
}

// scaledToZeroIs waits for a status of the ScaledToZero condition, with which the autoscaler records that it set the 0.
func scaledToZeroIs(t *testing.T, namespace string, want corev1.ConditionStatus) {
	t.Helper()
	eventually(t, "ScaledToZero "+string(want), func() (string, bool) {
		conditions := get(t, namespace, &autoscalingv2.HorizontalPodAutoscaler{}).Status.Conditions
		return fmt.Sprint(conditions), slices.ContainsFunc(conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.ScaledToZero && c.Status == want
		})
	})
}

// stays waits until the autoscaler has evaluated a person's 0 two more times and reports that it is disabled. The metric asks for three
// pods, but the autoscaler must not read it. The recorded scales show that nothing was written.
func stays(t *testing.T, namespace string, metrics *externalMetrics) {
	t.Helper()
	eventually(t, "ScalingDisabled", func() (string, bool) {
		conditions := get(t, namespace, &autoscalingv2.HorizontalPodAutoscaler{}).Status.Conditions
		return fmt.Sprint(conditions), slices.ContainsFunc(conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.ScalingActive && c.Reason == "ScalingDisabled"
		})
	})
	asked := metrics.asked.Load()
	mark, err := theCluster.AuditMark()
	must(t, err)
	eventually(t, "two more looks", func() (string, bool) {
		requests, err := theCluster.RequestsSince(mark, autoscalerUser)
		must(t, err)
		looks := 0
		for _, request := range requests {
			if request.Verb == "get" && request.Namespace == namespace && request.Resource == "statefulsets" && request.Subresource == "scale" {
				looks++
			}
		}
		return fmt.Sprint(looks), looks >= 2
	})
	if now := metrics.asked.Load(); now != asked {
		t.Errorf("the autoscaler read the metric %d times", now-asked)
	}
}

// operatorWritesNoStatefulSet fails if the operator has written the StatefulSet or a scale since a mark in the audit log.
func operatorWritesNoStatefulSet(t *testing.T, mark int64, namespace string) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == namespace && (request.Resource == "statefulsets" || request.Subresource == "scale") {
			t.Errorf("the operator wrote: %s", request)
		}
	}
}
