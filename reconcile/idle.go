package reconcile

import (
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// kedaManager is the field manager of KEDA, which writes 0, and the first number above it, itself: not by its HorizontalPodAutoscaler.
const kedaManager = "keda"

// zeroScale says why a server has a scale of 0, as reason and message of Ready. It is idle if an autoscaler has set the 0,
// because the autoscaler scales it up again. It is stopped if a person has, because it stays at 0 until a person acts.
func zeroScale(server *v1alpha1.MCPServer, owner *ownership.Owner, found autoscalers) (reason, message string) {
	if hpa := idleBy(owner, found); hpa != nil {
		message = fmt.Sprintf("scaled to 0 by %s, which scales it up again when its metrics ask for it: no pod runs", autoscalerName(hpa))
		if failure := metricsFailure(hpa); failure != "" {
			message += fmt.Sprintf(". It cannot at present, because it has no metrics (%.64q): see kubectl -n %s describe hpa %s",
				failure, server.Namespace, hpa.Name)
		}
		return reasonIdle, message
	}
	message = "scaled to 0: no pod runs"
	for _, hpa := range slices.Concat(found.ofStatefulSet, found.ofMCPServer) {
		if isOfKEDA(&hpa) {
			continue // KEDA scales up from any 0
		}
		toStart := fmt.Sprintf("run: kubectl -n %s scale statefulset %s --replicas=1", server.Namespace, applyconfigs.StatefulSetName(server.Name))
		if server.Spec.Replicas != nil {
			toStart = "set spec.replicas to 1 or more"
		}
		return reasonScaledToZero, message + fmt.Sprintf(". %s does nothing while the scale is a 0 that it has not set. To start the server, %s",
			autoscalerName(&hpa), toStart)
	}
	return reasonScaledToZero, message
}

// idleBy returns the autoscaler that has scaled to 0 and scales up again; nil if there is none. Kubernetes records no owner of
// most such writes, so that the condition ScaledToZero of the autoscaler decides: while it is True, and only then, the
// autoscaler scales up from 0, whoever has written that. KEDA has no such condition: it scales up from any 0.
func idleBy(owner *ownership.Owner, found autoscalers) *autoscalingv2.HorizontalPodAutoscaler {
	for _, hpas := range [][]autoscalingv2.HorizontalPodAutoscaler{found.ofStatefulSet, found.ofMCPServer} {
		for i := range hpas {
			ofKEDA := isOfKEDA(&hpas[i]) && (owner == nil || owner.Name == kedaManager)
			if ofKEDA || (hasScaledToZero(&hpas[i]) && metricsFailure(&hpas[i]) != scalingDisabled) {
				return &hpas[i]
			}
		}
	}
	return nil
}

// scalingDisabled is the reason of the condition ScalingActive of an autoscaler that does not scale up from 0. With ScaledToZero, it
// has lost the metrics that work without pods.
const scalingDisabled = "ScalingDisabled"

func hasScaledToZero(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// metricsFailure returns why an autoscaler cannot compute a scale; empty if it can.
func metricsFailure(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	for _, condition := range hpa.Status.Conditions {
		if condition.Type == autoscalingv2.ScalingActive && condition.Status == corev1.ConditionFalse {
			return condition.Reason
		}
	}
	return ""
}

// zeroConditions are the conditions of an autoscaler that matter here, without what changes all the time in them: none unless it
// has scaled to 0.
func zeroConditions(hpa *autoscalingv2.HorizontalPodAutoscaler) []autoscalingv2.HorizontalPodAutoscalerCondition {
	if !hasScaledToZero(hpa) {
		return nil
	}
	var kept []autoscalingv2.HorizontalPodAutoscalerCondition
	for _, condition := range hpa.Status.Conditions {
		if condition.Type == autoscalingv2.ScaledToZero || condition.Type == autoscalingv2.ScalingActive {
			kept = append(kept, autoscalingv2.HorizontalPodAutoscalerCondition{
				Type: condition.Type, Status: condition.Status, Reason: condition.Reason,
			})
		}
	}
	return kept
}
