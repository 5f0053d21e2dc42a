package status

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// Reasons of the events on an MCPServer. Conditions that need a person are events as well, under their own reason. There
// is one event for each time that something happens, never one for each pass.
const (
	eventScaleDeclared    = "ScaleDeclared"
	eventScaleTakenBack   = "ScaleTakenBack"
	eventScaleReleased    = "ScaleReleased"
	eventScaleRestored    = "ScaleRestored"
	eventScaleTransferred = "ScaleTransferred"
	eventFieldTakenBack   = "FieldTakenBack"
)

// The action of an event says what the operator was doing.
const (
	actionScale  = "Scale"
	actionApply  = "Apply"
	actionReport = "Report"
)

// mostNote is the length up to which the API server accepts the note of an event. The condition has it in full.
const mostNote = 1024

// Event is an event on an MCPServer.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason and Action are words for programs.
	Reason, Action string
	// Note is the sentence for people.
	Note string
	// Related is the child that the event is about as well; nil if there is none. Events of one reason about the same objects are counted,
	// and only the first of them is told.
	Related client.Object
}

func newEvent(kind, reason, action, note string) Event {
	return Event{Type: kind, Reason: reason, Action: action, Note: Bounded(note, mostNote)}
}

// OfPass are the events about what a pass has written.
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

// undoneEvent says which changes of others a step has undone.
func undoneEvent(step *plan.Step) Event {
	var who []string
	for _, change := range step.Undoes {
		what := "changed"
		if change.Removed {
			what = "removed"
		}
		who = append(who, fmt.Sprintf("%s had %s %s", writer(change.Manager), what, strings.Join(change.Fields, ", ")))
	}
	event := newEvent(corev1.EventTypeWarning, eventFieldTakenBack, actionApply, fmt.Sprintf(
		"%s of %s: set to what the MCPServer asks for. To keep another value, declare it in the MCPServer", strings.Join(who, "; "), step.Child))
	event.Related = step.Live
	return event
}

// scaleEvents say what a verdict that was carried out has changed; none if it changed nothing about the scale.
func scaleEvents(s *observe.Snapshot, verdict scale.Verdict) []Event {
	one := func(kind, reason, format string, args ...any) []Event {
		return []Event{newEvent(kind, reason, actionScale, fmt.Sprintf(format, args...))}
	}
	set := s.Children.StatefulSet
	switch verdict.Action {
	case scale.Declare:
		if set == nil || s.ScaleOwnerName() == v1alpha1.ScaleOwnerMCPServer {
			return nil // there is nobody it was taken from
		}
		return one(corev1.EventTypeNormal, eventScaleDeclared, "spec.replicas declares %d: scaled StatefulSet %q from %d, taken over from %s",
			*verdict.Apply.Replicas, set.Name, observe.ReplicasOf(set), scale.Describe(s.ScaleOwnerName()))
	case scale.TakeBack:
		return one(corev1.EventTypeWarning, eventScaleTakenBack, "%s had scaled StatefulSet %q to %d: put back to the declared %d, because "+
			"replicasConflictPolicy is %s. To let others scale it, remove spec.replicas or set replicasConflictPolicy to %s",
			scale.Describe(s.ScaleOwnerName()), set.Name, observe.ReplicasOf(set), *verdict.Apply.Replicas,
			v1alpha1.ReplicasConflictForce, v1alpha1.ReplicasConflictYield)
	case scale.Release:
		next := "the next to scale it meets no conflict"
		if others := s.ScaleOwners.OthersThanOurs(); len(others) > 0 {
			next = fmt.Sprintf("%s owned it as well and still does", strings.Join(others, " and "))
		}
		return one(corev1.EventTypeNormal, eventScaleReleased, "gave up the scale of StatefulSet %q, which stays at %d: %s",
			set.Name, observe.ReplicasOf(set), next)
	case scale.Restore:
		return one(corev1.EventTypeNormal, eventScaleRestored, "the StatefulSet was gone: created it at the %d replicas that it had",
			*verdict.Apply.Replicas)
	default:
		return nil
	}
}

// OfStatus are the events about what is new in a status: a condition that needs a person, or a transfer of the scale that was not the
// operator's own doing, which has its event already.
func OfStatus(server *v1alpha1.MCPServer, now v1alpha1.MCPServerStatus) []Event {
	var all []Event
	for _, conditionType := range []string{
		v1alpha1.ConditionStalled, v1alpha1.ConditionScaleConflict, v1alpha1.ConditionAutoscalerProblem,
		v1alpha1.ConditionFieldConflict,
	} {
		condition := apimeta.FindStatusCondition(now.Conditions, conditionType)
		before := apimeta.FindStatusCondition(server.Status.Conditions, conditionType)
		if condition != nil && (before == nil || before.Reason != condition.Reason || before.Message != condition.Message) {
			all = append(all, newEvent(corev1.EventTypeWarning, condition.Reason, actionReport, condition.Message))
		}
	}
	if note := transferNote(server.Status.Scale, now.Scale); note != "" && server.Spec.Replicas == nil {
		all = append(all, newEvent(corev1.EventTypeNormal, eventScaleTransferred, actionReport, note))
	}
	return all
}

// Transferred reports whether the scale has another owner than before.
func Transferred(before, now *v1alpha1.ScaleStatus) bool {
	return before != nil && now != nil && len(now.Transfers) > 0 && (len(before.Transfers) == 0 || before.Transfers[0] != now.Transfers[0])
}

// transferNote says how a delegated scale went from one owner to another. A write that Kubernetes records no owner of
// is one as well.
func transferNote(before, now *v1alpha1.ScaleStatus) string {
	switch {
	case before == nil, now == nil:
		return ""
	case now.Owner == v1alpha1.ScaleOwnerMCPServer, before.Owner == v1alpha1.ScaleOwnerMCPServer:
		return "" // a declaration, a restore, a release
	case now.Owner == v1alpha1.ScaleOwnerUnclaimed && before.Replicas == now.Replicas:
		return "" // it was restored
	case Transferred(before, now):
		return fmt.Sprintf("%s scaled the StatefulSet from %d to %d; before, its scale belonged to %s",
			scale.Describe(now.Owner), before.Replicas, now.Replicas, scale.Describe(before.Owner))
	case now.Owner == v1alpha1.ScaleOwnerUnclaimed && before.Owner == now.Owner:
		return fmt.Sprintf("the StatefulSet was scaled from %d to %d through /scale (kubectl scale, an autoscaler); "+
			"Kubernetes records no owner for that, because nobody owned the scale", before.Replicas, now.Replicas)
	default:
		return ""
	}
}
