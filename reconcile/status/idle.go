package status

import (
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// zeroScale returns the reason and the message of Ready for a server with a scale of 0. The server is idle if an autoscaler set the 0,
// because the autoscaler scales it up again. Otherwise the server is stopped, because it stays at 0 until a user acts.
func zeroScale(server *v1beta1.MCPServer, owner *ownership.Owner, found observe.Autoscalers) (reason, message string) {
	if hpa := idleBy(owner, found); hpa != nil {
		message = fmt.Sprintf("scaled to 0 by %s, which scales it up again when its metrics require it: no pod runs", scale.AutoscalerName(hpa))
		if failure := metricsFailure(hpa); failure != "" {
			message += fmt.Sprintf(". It cannot at present, because it has no metrics (%.64q): see kubectl -n %s describe hpa %s",
				failure, server.Namespace, hpa.Name)
		}
		return reasonIdle, message
	}
	message = "scaled to 0: no pod runs"
	for _, hpa := range slices.Concat(found.OfStatefulSet, found.OfMCPServer) {
		if scale.IsOfKEDA(&hpa) {
			continue // KEDA scales up from any 0
		}
		toStart := fmt.Sprintf("run: kubectl -n %s scale statefulset %s --replicas=1", server.Namespace, applyconfigs.StatefulSetName(server.Name))
		if ptr.Equal(server.Spec.DeclaredReplicas(), ptr.To[int32](0)) { // any other number was carried out once, and has no effect again
			toStart = "set spec.replicas to 1 or more"
		}
		return reasonScaledToZero, message + fmt.Sprintf(". %s does not scale up from a 0 that it did not set. To start the server, %s",
			scale.AutoscalerName(&hpa), toStart)
	}
	return reasonScaledToZero, message
}

// idleBy returns the autoscaler that has scaled to 0 and scales up again; nil if there is none. For most such writes Kubernetes records no
// owner. Therefore the condition ScaledToZero of the autoscaler decides: only while it is True does the autoscaler scale up from 0,
// regardless of the writer of the 0. KEDA has no such condition: it scales up from any 0.
func idleBy(owner *ownership.Owner, found observe.Autoscalers) *autoscalingv2.HorizontalPodAutoscaler {
	for _, hpas := range [][]autoscalingv2.HorizontalPodAutoscaler{found.OfStatefulSet, found.OfMCPServer} {
		for i := range hpas {
			ofKEDA := scale.IsOfKEDA(&hpas[i]) && (owner == nil || owner.Name == scale.KEDAManager)
			if ofKEDA || (observe.HasScaledToZero(&hpas[i]) && metricsFailure(&hpas[i]) != scalingDisabled) {
				return &hpas[i]
			}
		}
	}
	return nil
}

// scalingDisabled is the reason of the condition ScalingActive of an autoscaler that does not scale up from 0. Together with ScaledToZero
// it means that the autoscaler no longer has a metric that works without pods.
const scalingDisabled = "ScalingDisabled"

// metricsFailure returns the reason why an autoscaler cannot compute a scale; empty if it can.
func metricsFailure(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	for _, condition := range hpa.Status.Conditions {
		if condition.Type == autoscalingv2.ScalingActive && condition.Status == corev1.ConditionFalse {
			return condition.Reason
		}
	}
	return ""
}
