package status

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// Reasons of the events on an MCPServer. Conditions that need a user action are also events, with the reason of the condition. Each
// occurrence is one event; a pass that changes nothing emits none.
const (
	eventScaleDeclared    = "ScaleDeclared"
	eventScaleTakenBack   = "ScaleTakenBack"
	eventScaleReleased    = "ScaleReleased"
	eventScaleRestored    = "ScaleRestored"
	eventScaleTransferred = "ScaleTransferred"
	eventFieldTakenBack   = "FieldTakenBack"
	eventOtherOperator    = "OtherOperatorWrites"
)

// The action of an event is what the operator was doing.
const (
	actionScale  = "Scale"
	actionApply  = "Apply"
	actionReport = "Report"
)

// mostNote is the maximum length of a note that the API server accepts. The condition has the full text.
const mostNote = 1024

// Event is an event on an MCPServer.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason and Action are machine-readable.
	Reason, Action string
	// Note is human-readable.
	Note string
	// Related is the child that the event is also about; nil if there is none. Events with the same reason about the same objects are
	// counted, and only the note of the first is kept.
	Related client.Object
}

func newEvent(kind, reason, action, note string) Event {
	return Event{Type: kind, Reason: reason, Action: action, Note: Bounded(note, mostNote)}
}

// OfPass returns the events about the writes of a pass.
func OfPass(s *observe.Snapshot, verdict scale.Verdict, results plan.Results) []Event {
	var all []Event
	for i := range results {
		if results[i].Outcome == plan.Written && len(results[i].Step.Undoes) > 0 {
			all = append(all, undoneEvent(&results[i].Step))
		}
	}
	if results.StatefulSet() != nil {
		all = append(all, scaleEvents(s, verdict)...)
	}
	return all
}

// undoneEvent returns the event about the changes of other writers that a step has undone.
func undoneEvent(step *plan.Step) Event {
	var who []string
	if first := step.Undoes[0]; first.Stays {
		event := newEvent(corev1.EventTypeWarning, eventOtherOperator, actionApply, fmt.Sprintf("%s, a field manager of another operator, has written %s "+
			"of %s. Two operators must not run for the same MCPServer: stop the other one. This operator has taken over the fields, and the values stay",
			writer(first.Manager), shortList(first.Fields), step.Child))
		event.Related = step.Live
		return event
	}
	for _, change := range step.Undoes {
		what := "changed"
		if change.Removed {
			what = "removed"
		}
		who = append(who, fmt.Sprintf("%s had %s %s", writer(change.Manager), what, shortList(change.Fields)))
	}
	event := newEvent(corev1.EventTypeWarning, eventFieldTakenBack, actionApply, fmt.Sprintf(
		"%s of %s. The operator has reverted this. To keep another value, declare it in the MCPServer", strings.Join(who, "; "), step.Child))
	event.Related = step.Live
	return event
}

// scaleEvents returns the events about the scale after a verdict was carried out; none if it did not change the scale.
func scaleEvents(s *observe.Snapshot, verdict scale.Verdict) []Event {
	one := func(kind, reason, format string, args ...any) []Event {
		return []Event{newEvent(kind, reason, actionScale, fmt.Sprintf(format, args...))}
	}
	set := s.Children.StatefulSet
	switch verdict.Action {
	case scale.Declare:
		if set == nil || s.ScaleOwnerName() == v1beta1.ScaleOwnerMCPServer {
			return nil // the scale was not taken from another owner
		}
		return one(corev1.EventTypeNormal, eventScaleDeclared, "spec.replicas declares %d: the operator scaled StatefulSet %q from %d. The previous owner of the scale was %s",
			*verdict.Apply.Replicas, set.Name, observe.ReplicasOf(set), scale.Describe(s.ScaleOwnerName()))
	case scale.TakeBack:
		return one(corev1.EventTypeWarning, eventScaleTakenBack, "%s had scaled StatefulSet %q to %d. The operator restored the declared %d, because "+
			"replicasConflictPolicy is %s. To let others scale it, remove spec.replicas or set replicasConflictPolicy to %s",
			scale.Describe(s.ScaleOwnerName()), set.Name, observe.ReplicasOf(set), *verdict.Apply.Replicas,
			v1beta1.ReplicasConflictForce, v1beta1.ReplicasConflictYield)
	case scale.Release:
		next := "the next writer meets no conflict"
		if others := s.ScaleOwners.OthersThanOurs(); len(others) > 0 {
			next = fmt.Sprintf("%s also owned the scale and still owns it", strings.Join(others, " and "))
		}
		return one(corev1.EventTypeNormal, eventScaleReleased, "the operator gave up the ownership of the scale of StatefulSet %q, which stays at %d: %s",
			set.Name, observe.ReplicasOf(set), next)
	case scale.Restore:
		return one(corev1.EventTypeNormal, eventScaleRestored, "the StatefulSet was deleted. The operator created it again with the %d replicas that it had",
			*verdict.Apply.Replicas)
	default:
		return nil
	}
}

// OfStatus returns the events about what is new in a status: a condition that needs a user action, or a transfer of the scale by another
// writer. A transfer by the operator already has an event of OfPass.
func OfStatus(server *v1beta1.MCPServer, now v1beta1.MCPServerStatus) []Event {
	var all []Event
	for _, conditionType := range []string{
		v1beta1.ConditionStalled, v1beta1.ConditionScaleConflict, v1beta1.ConditionAutoscalerProblem,
		v1beta1.ConditionFieldConflict,
	} {
		condition := apimeta.FindStatusCondition(now.Conditions, conditionType)
		before := apimeta.FindStatusCondition(server.Status.Conditions, conditionType)
		if condition != nil && (before == nil || before.Reason != condition.Reason || before.Message != condition.Message) {
			all = append(all, newEvent(corev1.EventTypeWarning, condition.Reason, actionReport, condition.Message))
		}
	}
	if note := transferNote(server.Status.Scale, now.Scale); note != "" && server.Spec.DeclaredReplicas() == nil {
		all = append(all, newEvent(corev1.EventTypeNormal, eventScaleTransferred, actionReport, note))
	}
	return all
}

// Transferred reports whether the owner of the scale has changed.
func Transferred(before, now *v1beta1.ScaleStatus) bool {
	return before != nil && now != nil && len(now.Transfers) > 0 && (len(before.Transfers) == 0 || before.Transfers[0] != now.Transfers[0])
}

// transferNote returns the note about a delegated scale that changed its owner, or that was written without a recorded owner; empty if
// there was neither.
func transferNote(before, now *v1beta1.ScaleStatus) string {
	switch {
	case before == nil, now == nil:
		return ""
	case now.Owner == v1beta1.ScaleOwnerMCPServer, before.Owner == v1beta1.ScaleOwnerMCPServer:
		return "" // a declaration, a restore, a release
	case now.Owner == v1beta1.ScaleOwnerUnclaimed && before.Replicas == now.Replicas:
		return "" // it was restored
	case Transferred(before, now):
		return fmt.Sprintf("%s scaled the StatefulSet from %d to %d. The previous owner of the scale was %s",
			scale.Describe(now.Owner), before.Replicas, now.Replicas, scale.Describe(before.Owner))
	case now.Owner == v1beta1.ScaleOwnerUnclaimed && before.Owner == now.Owner:
		return fmt.Sprintf("the StatefulSet was scaled from %d to %d through /scale (kubectl scale, an autoscaler). "+
			"Kubernetes records no owner for this write, because the scale had no owner before", before.Replicas, now.Replicas)
	default:
		return ""
	}
}
