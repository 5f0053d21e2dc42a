package reconcile

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// scaleConflict is the condition that is present while a declared scale is held by someone else at another value, or is
// fought over. Its message does not change while the conflict does not, so that it is one event.
func scaleConflict(p *pass) []metav1.Condition {
	if p.children.statefulSet == nil || p.server.Spec.Replicas == nil {
		return nil
	}
	declared, replicas := *p.server.Spec.Replicas, replicasOf(p.children.statefulSet)
	if scale := p.server.Status.Scale; scale != nil && isFight(scale.TakeBacks, p.now.Time) && declaresByForce(p.server) {
		from := scale.TakeBacks.From
		return conflict(reasonScaleFight, fmt.Sprintf("spec.replicas declares %d with replicasConflictPolicy %s, and %s scales "+
			"the StatefulSet each time it is put back; taking it back less and less often, at most every %s, so that pods do not "+
			"flap. %s, or set replicasConflictPolicy to %s, or remove spec.replicas",
			declared, v1alpha1.ReplicasConflictForce, describeOwner(from), fightMostDelay, stopWriter(from),
			v1alpha1.ReplicasConflictYield))
	}
	if p.verdict.Action != scaleYield || replicas == declared {
		return nil
	}
	return conflict(reasonScaleYielded, fmt.Sprintf("spec.replicas declares %d, and %s has scaled the StatefulSet to %d since; "+
		"whoever scaled last keeps it. To take the scale back, change spec.replicas or set replicasConflictPolicy to %s; to "+
		"leave it for good, remove spec.replicas",
		declared, describeOwner(p.scaleOwner()), replicas, v1alpha1.ReplicasConflictForce))
}

// stopWriter says what stops a writer.
func stopWriter(owner string) string {
	if kind, name, ok := strings.Cut(owner, "/"); ok {
		return fmt.Sprintf("Delete %s %q", kind, name)
	}
	return fmt.Sprintf("Stop %s from scaling it", describeOwner(owner))
}

func conflict(reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: v1alpha1.ConditionScaleConflict, Status: metav1.ConditionTrue, Reason: reason, Message: message,
	}}
}

// fieldConflict is the condition that is present while fields of children are fought over.
func fieldConflict(p *pass) []metav1.Condition {
	if len(p.fights) == 0 {
		return nil
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionFieldConflict, Status: metav1.ConditionTrue,
		Reason: reasonFieldFight, Message: strings.Join(p.fights, "; "),
	}}
}

// autoscalerProblem is the condition that is present while there are findings about the autoscalers.
func autoscalerProblem(findings []finding) []metav1.Condition {
	if len(findings) == 0 {
		return nil
	}
	var messages []string
	for _, found := range findings {
		messages = append(messages, found.Message)
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionAutoscalerProblem, Status: metav1.ConditionTrue,
		Reason: findings[0].Reason, Message: strings.Join(messages, "; "),
	}}
}
