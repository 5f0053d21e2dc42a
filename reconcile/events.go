package reconcile

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"mcpserver-operator/crd/v1alpha1"
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

// recordScaleWrite records what a verdict that was just carried out did, as an event and in the metrics. After is the
// scale in the status afterwards; nil when there was none before.
func (r *Reconciler) recordScaleWrite(p *pass, after *v1alpha1.ScaleStatus) {
	kind, reason, note := scaleEvent(p)
	if reason == "" {
		return
	}
	r.event(p.server, kind, reason, actionScale, note)
	if after != nil && p.verdict.Action == scaleTakeBack && isFight(after.TakeBacks, p.now.Time) {
		scaleFights.Inc()
	}
}

// scaleEvent says what a verdict changed; the reason is empty when it changed nothing about the scale.
func scaleEvent(p *pass) (kind, reason, note string) {
	set := p.children.statefulSet
	switch p.verdict.Action {
	case scaleDeclare:
		if set == nil || p.scaleOwner() == v1alpha1.ScaleOwnerMCPServer {
			return "", "", "" // there is nobody it was taken from
		}
		return corev1.EventTypeNormal, eventScaleDeclared, fmt.Sprintf(
			"spec.replicas declares %d: scaled StatefulSet %q from %d, taken over from %s",
			*p.verdict.Apply.Replicas, set.Name, replicasOf(set), describeOwner(p.scaleOwner()))
	case scaleTakeBack:
		return corev1.EventTypeWarning, eventScaleTakenBack, fmt.Sprintf(
			"%s had scaled StatefulSet %q to %d: put back to the declared %d, because replicasConflictPolicy is %s. "+
				"To let others scale it, remove spec.replicas or set replicasConflictPolicy to %s",
			describeOwner(p.scaleOwner()), set.Name, replicasOf(set), *p.verdict.Apply.Replicas,
			v1alpha1.ReplicasConflictForce, v1alpha1.ReplicasConflictYield)
	case scaleRelease:
		return corev1.EventTypeNormal, eventScaleReleased, fmt.Sprintf(
			"gave up the scale of StatefulSet %q, which stays at %d: the next to scale it meets no conflict",
			set.Name, replicasOf(set))
	case scaleRestore:
		return corev1.EventTypeNormal, eventScaleRestored, fmt.Sprintf(
			"the StatefulSet was gone: created it at the %d replicas that it had", *p.verdict.Apply.Replicas)
	default:
		return "", "", ""
	}
}

// recordNews records an event for what is new in the status: a condition that needs a person, or a transfer of the
// scale that was not the operator's own doing, which has its event already.
func (r *Reconciler) recordNews(server *v1alpha1.MCPServer, status v1alpha1.MCPServerStatus) {
	for _, conditionType := range []string{
		v1alpha1.ConditionStalled, v1alpha1.ConditionScaleConflict, v1alpha1.ConditionAutoscalerProblem,
		v1alpha1.ConditionFieldConflict,
	} {
		now := apimeta.FindStatusCondition(status.Conditions, conditionType)
		before := apimeta.FindStatusCondition(server.Status.Conditions, conditionType)
		if now != nil && (before == nil || before.Reason != now.Reason || before.Message != now.Message) {
			r.event(server, corev1.EventTypeWarning, now.Reason, actionReport, now.Message)
		}
	}
	before, now := server.Status.Scale, status.Scale
	if before == nil || now == nil {
		return
	}
	transferred := len(now.Transfers) > 0 && (len(before.Transfers) == 0 || before.Transfers[0] != now.Transfers[0])
	if transferred {
		scaleTransfers.WithLabelValues(ownerKind(before.Owner), ownerKind(now.Owner)).Inc()
	}
	if note := transferNote(before, now, transferred); note != "" && server.Spec.Replicas == nil {
		r.event(server, corev1.EventTypeNormal, eventScaleTransferred, actionReport, note)
	}
}

// transferNote says how a delegated scale went from one owner to another. A write that Kubernetes records no owner of
// is one as well.
func transferNote(before, now *v1alpha1.ScaleStatus, transferred bool) string {
	switch {
	case now.Owner == v1alpha1.ScaleOwnerMCPServer, before.Owner == v1alpha1.ScaleOwnerMCPServer:
		return "" // a declaration, a restore, a release
	case now.Owner == v1alpha1.ScaleOwnerUnclaimed && before.Replicas == now.Replicas:
		return "" // it was restored
	case transferred:
		return fmt.Sprintf("%s scaled the StatefulSet from %d to %d; before, its scale belonged to %s",
			describeOwner(now.Owner), before.Replicas, now.Replicas, describeOwner(before.Owner))
	case now.Owner == v1alpha1.ScaleOwnerUnclaimed && before.Owner == now.Owner:
		return fmt.Sprintf("the StatefulSet was scaled from %d to %d through /scale (kubectl scale, an autoscaler); "+
			"Kubernetes records no owner for that, because nobody owned the scale", before.Replicas, now.Replicas)
	default:
		return ""
	}
}

// ownerKind is the owner of a scale without its name, so that a metric by owner has few series: the kind of an
// autoscaler, or the field manager.
func ownerKind(owner string) string {
	kind, _, _ := strings.Cut(owner, "/")
	return kind
}

// mostNote is the length up to which the API server accepts the note of an event; the condition has it in full.
const mostNote = 1024

// event records an event on an MCPServer.
func (r *Reconciler) event(server *v1alpha1.MCPServer, kind, reason, action, note string) {
	r.eventAbout(server, nil, kind, reason, action, note)
}

// eventAbout records an event on an MCPServer that is about another object as well.
func (r *Reconciler) eventAbout(server *v1alpha1.MCPServer, related runtime.Object, kind, reason, action, note string) {
	if len(note) > mostNote {
		note = strings.ToValidUTF8(note[:mostNote-len("…")], "") + "…"
	}
	r.Recorder.Eventf(server, related, kind, reason, action, "%s", note)
}
