package reconcile

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// Reasons of the events on an MCPServer. There is one event for each time it happens, never one for each pass.
const (
	eventScaleDeclared  = "ScaleDeclared"
	eventScaleTakenBack = "ScaleTakenBack"
	eventScaleReleased  = "ScaleReleased"
	eventScaleRestored  = "ScaleRestored"
)

// recordScaleWrite records the event of a verdict that was just carried out.
func (r *Reconciler) recordScaleWrite(p *pass) {
	kind, reason, note := scaleEvent(p)
	if reason == "" {
		return
	}
	r.Recorder.Eventf(p.server, nil, kind, reason, string(p.verdict.Action), "%s", note)
}

// scaleEvent says what a verdict changed; the reason is empty when it changed nothing about the scale.
func scaleEvent(p *pass) (kind, reason, note string) {
	set := p.children.statefulSet
	switch p.verdict.Action {
	case scaleDeclare:
		if set == nil {
			return "", "", "" // a new StatefulSet: there is nobody it was taken from
		}
		return corev1.EventTypeNormal, eventScaleDeclared, fmt.Sprintf(
			"spec.replicas declares %d: scaled StatefulSet %q from %d, taken over from %s",
			*p.verdict.Apply.Replicas, set.Name, replicasOf(set), p.children.scaleOwner())
	case scaleTakeBack:
		return corev1.EventTypeWarning, eventScaleTakenBack, fmt.Sprintf(
			"%s had scaled StatefulSet %q to %d: put back to the declared %d, because replicasConflictPolicy is %s. "+
				"To let others scale it, remove spec.replicas or set replicasConflictPolicy to %s",
			p.children.scaleOwner(), set.Name, replicasOf(set), *p.verdict.Apply.Replicas,
			v1alpha1.ReplicasConflictForce, v1alpha1.ReplicasConflictYield)
	case scaleRelease:
		return corev1.EventTypeNormal, eventScaleReleased, fmt.Sprintf(
			"gave up the scale of StatefulSet %q, which stays at %d: the next to scale it meets no conflict",
			set.Name, replicasOf(set))
	case scaleRestore:
		return corev1.EventTypeNormal, eventScaleRestored, fmt.Sprintf(
			"StatefulSet was gone: created it at the %d replicas that it had", *p.verdict.Apply.Replicas)
	case scaleKeep, scaleLeave, scaleYield:
	}
	return "", "", ""
}
