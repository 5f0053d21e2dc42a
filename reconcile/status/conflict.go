package status

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// scaleConflict returns the condition ScaleConflict: another writer holds a declared scale at another value, or repeatedly changes the
// scale. The message changes only if the conflict changes, so that each conflict is one event.
func scaleConflict(s *observe.Snapshot, verdict scale.Verdict) []metav1.Condition {
	if s.Children.StatefulSet == nil || s.Server.Spec.DeclaredReplicas() == nil || s.Server.Spec.Suspend {
		return nil
	}
	declared, replicas := *s.Server.Spec.DeclaredReplicas(), observe.ReplicasOf(s.Children.StatefulSet)
	if last := s.Server.Status.Scale; last != nil && scale.IsFight(last.TakeBacks, s.Now.Time) && declaresByForce(s.Server) {
		var who, stop []string
		for _, writer := range scale.Writers(last.TakeBacks) {
			who, stop = append(who, scale.Describe(writer)), append(stop, scale.StopAdvice(writer))
		}
		return conflict(ReasonScaleFight, fmt.Sprintf("spec.replicas declares %d with replicasConflictPolicy %s, but each time the "+
			"operator restores this scale, the StatefulSet is scaled again by %s. The operator retries with an increasing delay of up to %s, "+
			"so that pods do not flap. %s, or set replicasConflictPolicy to %s, or remove spec.replicas",
			declared, v1beta1.ReplicasConflictForce, strings.Join(who, " and "), scale.MostDelay, strings.Join(stop, ", and "),
			v1beta1.ReplicasConflictYield))
	}
	if verdict.Action != scale.Yield || replicas == declared {
		return nil
	}
	return conflict(reasonScaleYielded, fmt.Sprintf("spec.replicas declares %d, but %s has since scaled the StatefulSet to %d. "+
		"The operator does not change the scale. To take it back, change spec.replicas or set replicasConflictPolicy to %s. To "+
		"leave it to other writers permanently, remove spec.replicas",
		declared, scale.Describe(s.ScaleOwnerName()), replicas, v1beta1.ReplicasConflictForce))
}

func conflict(reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: v1beta1.ConditionScaleConflict, Status: metav1.ConditionTrue, Reason: reason, Message: message,
	}}
}

// fieldConflict returns the condition FieldConflict: another writer repeatedly changes fields of children, or keeps fields that the
// MCPServer has dropped.
func fieldConflict(results plan.Results, kept []v1beta1.KeptFields) []metav1.Condition {
	var fights []string
	for i := range results {
		step := &results[i].Step
		if step.Action != plan.BackOff {
			continue
		}
		fights = append(fights, fieldFight(step))
	}
	reason := reasonFieldFight
	if len(fights) == 0 {
		reason = reasonFieldKept
	}
	for _, one := range kept {
		fights = append(fights, fmt.Sprintf("the MCPServer no longer sets %s of %s, but %q has also applied it. The operator cannot remove it, and "+
			"the pods may still use it. Remove it from the configuration that %q applies",
			shortList(one.Fields), observe.Child{Kind: one.Kind, Name: one.Name}, one.Manager, one.Manager))
	}
	if len(fights) == 0 {
		return nil
	}
	return []metav1.Condition{{
		Type: v1beta1.ConditionFieldConflict, Status: metav1.ConditionTrue, Reason: reason, Message: strings.Join(fights, "; "),
	}}
}

// fieldFight returns the message about a fight over fields of a child.
func fieldFight(step *plan.Step) string {
	first := step.Undoes[0]
	fields := shortList(first.Fields)
	var who []string
	for _, manager := range step.Writers {
		who = append(who, writer(manager))
	}
	does, wayOut := "changes", fmt.Sprintf("Stop this field manager from writing %s, or declare its value in the MCPServer", first.Fields[0])
	switch {
	case first.Stays:
		return fmt.Sprintf("%s writes %s of %s each time the operator has taken over the fields. It is a field manager of another operator, and two "+
			"operators must not run for the same MCPServer. Stop the other operator. This operator retries with an increasing delay of up to %s",
			strings.Join(who, " and "), fields, step.Child, scale.MostDelay)
	case first.Removed:
		does, wayOut = "removes", "Kubernetes does not record who removes a field. Find out who removes it, and stop that writer"
	case first.Manager == plan.Somebody:
		wayOut = "Kubernetes does not record who changes it. Find the writer, for example a mutating admission webhook, and stop it"
	case len(who) > 1:
		does, wayOut = "change", fmt.Sprintf("Stop these field managers from writing %s, or declare its value in the MCPServer", first.Fields[0])
	}
	return fmt.Sprintf("%s %s %s of %s each time the operator restores it. The operator retries with an increasing delay of up to %s. %s",
		strings.Join(who, " and "), does, fields, step.Child, scale.MostDelay, wayOut)
}

// shortList joins the first mostFields of the fields, and counts the others.
func shortList(fields []string) string {
	text := strings.Join(fields[:min(len(fields), mostFields)], ", ")
	if more := len(fields) - mostFields; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// writer returns a field manager as a word of a sentence.
func writer(manager string) string {
	if manager == plan.Somebody {
		return manager
	}
	return fmt.Sprintf("%q", manager)
}

// autoscalerProblem returns the condition AutoscalerProblem if there are findings.
func autoscalerProblem(findings []finding) []metav1.Condition {
	if len(findings) == 0 {
		return nil
	}
	var messages []string
	for _, found := range findings {
		messages = append(messages, found.Message)
	}
	return []metav1.Condition{{
		Type: v1beta1.ConditionAutoscalerProblem, Status: metav1.ConditionTrue,
		Reason: findings[0].Reason, Message: strings.Join(messages, "; "),
	}}
}

// mostFields is the maximum number of fields that a message names.
const mostFields = 5

// mcpServerResource names MCPServers in the commands of messages. The plural alone, "mcpservers", may be a resource of another API group.
const mcpServerResource = "mcpservers.toolhive.stacklok.dev"

// updateAvailable returns the condition UpdateAvailable if the operator has not applied its new pod template.
func updateAvailable(server *v1beta1.MCPServer, update *plan.Update) []metav1.Condition {
	if update == nil {
		return nil
	}
	changes := shortList(update.Fields)
	if changes == "" {
		changes = "the pod template. The new pod template is unknown, because the command of the server is unknown: set spec.command"
	}
	return []metav1.Condition{{
		Type: v1beta1.ConditionUpdateAvailable, Status: metav1.ConditionTrue, Reason: reasonOtherRevision,
		Message: fmt.Sprintf("the pods run revision %s of the pod template. This version of the operator has revision %s, which changes %s. "+
			"The operator applies it with the next change of the pod template. To apply it now and restart the pods, run: "+
			"kubectl annotate %s %s -n %s --overwrite %s=%s",
			update.From, update.To, changes, mcpServerResource, server.Name, server.Namespace,
			v1beta1.UpdatePodTemplateAnnotation, update.To),
	}}
}
