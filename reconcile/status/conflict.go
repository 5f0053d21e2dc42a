package status

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// scaleConflict is the condition that is present while a declared scale is held by someone else at another value, or is
// fought over. Its message does not change while the conflict does not, so that it is one event.
func scaleConflict(s *observe.Snapshot, verdict scale.Verdict) []metav1.Condition {
	if s.Children.StatefulSet == nil || s.Server.Spec.Replicas == nil || s.Server.Spec.Suspend {
		return nil
	}
	declared, replicas := *s.Server.Spec.Replicas, observe.ReplicasOf(s.Children.StatefulSet)
	if last := s.Server.Status.Scale; last != nil && scale.IsFight(last.TakeBacks, s.Now.Time) && declaresByForce(s.Server) {
		var who, stop []string
		for _, writer := range scale.Writers(last.TakeBacks) {
			who, stop = append(who, scale.Describe(writer)), append(stop, scale.StopAdvice(writer))
		}
		return conflict(reasonScaleFight, fmt.Sprintf("spec.replicas declares %d with replicasConflictPolicy %s, and the StatefulSet is "+
			"scaled each time it is put back, by %s. The operator puts it back less and less often, at most every %s, so that pods do "+
			"not flap. %s, or set replicasConflictPolicy to %s, or remove spec.replicas",
			declared, v1alpha1.ReplicasConflictForce, strings.Join(who, " and "), scale.MostDelay, strings.Join(stop, ", and "),
			v1alpha1.ReplicasConflictYield))
	}
	if verdict.Action != scale.Yield || replicas == declared {
		return nil
	}
	return conflict(reasonScaleYielded, fmt.Sprintf("spec.replicas declares %d, and %s has scaled the StatefulSet to %d since. "+
		"Whoever scaled last keeps it. To take the scale back, change spec.replicas or set replicasConflictPolicy to %s. To "+
		"leave it for good, remove spec.replicas",
		declared, scale.Describe(s.ScaleOwnerName()), replicas, v1alpha1.ReplicasConflictForce))
}

func conflict(reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: v1alpha1.ConditionScaleConflict, Status: metav1.ConditionTrue, Reason: reason, Message: message,
	}}
}

// fieldConflict is the condition that is present while fields of children are fought over.
func fieldConflict(results plan.Results) []metav1.Condition {
	var fights []string
	for i := range results {
		step := &results[i].Step
		if step.Action != plan.BackOff {
			continue
		}
		first := step.Undoes[0]
		does, wayOut := "changes", fmt.Sprintf("Stop it from writing %s, or declare its value in the MCPServer", first.Fields[0])
		if first.Removed {
			does, wayOut = "removes", "Kubernetes does not record who. Find out who removes it, and stop that"
		}
		fights = append(fights, fmt.Sprintf("%s %s %s of %s each time the operator puts it back. The operator puts it back less and less "+
			"often, at most every %s. %s", writer(first.Manager), does, strings.Join(first.Fields, ", "), step.Child, scale.MostDelay, wayOut))
	}
	reason := reasonFieldFight
	if len(fights) == 0 {
		reason = reasonFieldKept
	}
	for _, residue := range results.Residues() {
		fights = append(fights, fmt.Sprintf("%s of %s stays, although the MCPServer no longer asks for it, because %q has applied it too. The pods "+
			"may still get it. Remove it from what %q applies", shortList(residue.Fields), residue.Child, residue.Manager, residue.Manager))
	}
	if len(fights) == 0 {
		return nil
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionFieldConflict, Status: metav1.ConditionTrue, Reason: reason, Message: strings.Join(fights, "; "),
	}}
}

// shortList names the first of some fields.
func shortList(fields []string) string {
	text := strings.Join(fields[:min(len(fields), mostFields)], ", ")
	if more := len(fields) - mostFields; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// writer names a field manager in a sentence.
func writer(manager string) string {
	if manager == plan.Somebody {
		return manager
	}
	return fmt.Sprintf("%q", manager)
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

// mostFields bounds how many fields a message names.
const mostFields = 5

// updateAvailable is the condition that is present while the operator has another pod template that it has not applied.
func updateAvailable(server *v1alpha1.MCPServer, update *plan.Update) []metav1.Condition {
	if update == nil {
		return nil
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionUpdateAvailable, Status: metav1.ConditionTrue, Reason: reasonOtherRevision,
		Message: fmt.Sprintf("the pods run a pod template of revision %d, and this version of the operator makes revision %d, which changes %s. "+
			"The operator applies it with the next change that reaches the pods. To apply it now, which restarts the pods, run: "+
			"kubectl -n %s annotate mcpservers.toolhive.stacklok.dev %s --overwrite %s=%d",
			update.From, update.To, shortList(update.Fields), server.Namespace, server.Name, v1alpha1.UpdatePodTemplateAnnotation, update.To),
	}}
}
