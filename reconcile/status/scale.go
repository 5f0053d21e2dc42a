package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// transfersKept is the number of transfers of the scale that the status keeps.
const transfersKept = 5

// scaleSeen returns the owner of the scale of an existing StatefulSet, with the previous owners.
func scaleSeen(s *observe.Snapshot) *v1beta1.ScaleStatus {
	next := &v1beta1.ScaleStatus{Replicas: observe.ReplicasOf(s.Children.StatefulSet), Owner: s.ScaleOwnerName()}
	if owner := s.ScaleOwner(); owner != nil {
		next.Manager, next.Operation, next.Subresource = owner.Name, owner.Operation, owner.Subresource
	}
	if s.Server.Spec.DeclaredReplicas() != nil {
		next.DeclaredReplicas = s.CarriedOut
	}
	last := s.Server.Status.Scale
	// Under Yield there is no fight, and a change back to Force takes the scale back at once.
	if last != nil && last.TakeBacks != nil && scale.StillCounts(last.TakeBacks, s.Now.Time) && declaresByForce(s.Server) {
		next.TakeBacks = last.TakeBacks
	}
	return remember(last, next, s.Now)
}

// ScaleWritten returns the status after the verdict of a pass was carried out. The operator writes it in the same pass: before the next
// pass, somebody could delete the StatefulSet or edit the annotation, and the declaration, the scale and the number of take-backs would be
// lost. It returns false if the status has no scale yet, because then nothing can be lost.
func ScaleWritten(s *observe.Snapshot, verdict scale.Verdict) (v1beta1.MCPServerStatus, bool) {
	status := *s.Server.Status.DeepCopy()
	if status.Scale == nil {
		return status, false
	}
	last, next := s.Server.Status.Scale, status.Scale
	next.DeclaredReplicas = verdict.Apply.Declared
	switch verdict.Action {
	case scale.Declare, scale.TakeBack:
		next.Replicas = *verdict.Apply.Replicas
		next.Owner = v1beta1.ScaleOwnerMCPServer
		next.Manager, next.Operation, next.Subresource = applyconfigs.FieldManager, metav1.ManagedFieldsOperationApply, ""
	case scale.Release:
		next.Replicas = observe.ReplicasOf(s.Children.StatefulSet)
		next.Owner = v1beta1.ScaleOwnerUnclaimed
		next.Manager, next.Operation, next.Subresource = "", "", ""
	case scale.Restore:
		next.Replicas = *verdict.Apply.Replicas
	default: // the other actions do not change the scale
	}
	if verdict.Action == scale.Declare {
		next.TakeBacks = nil // a fight over an earlier declaration says nothing about this one
	}
	if verdict.Action == scale.TakeBack {
		next.TakeBacks = scale.CountTakeBack(next.TakeBacks, s.ScaleOwnerName(), s.Now)
	}
	status.Scale = remember(last, next, s.Now)
	return status, true
}

// remember copies the history of the last scale to next. A time in the future was edited, or a clock was wrong: remember replaces it with the
// present time.
func remember(last, next *v1beta1.ScaleStatus, now metav1.Time) *v1beta1.ScaleStatus {
	next.Since, next.Transfers = now, nil
	if last == nil {
		return next
	}
	next.Transfers = slices.Clone(last.Transfers)
	for i := range next.Transfers {
		next.Transfers[i].Time = notAfter(now, next.Transfers[i].Time)
	}
	// If an autoscaler is deleted or adopted by KEDA, the name of the owner changes, but the writer does not.
	renamed := last.Manager == next.Manager && last.Operation == next.Operation &&
		last.Subresource == next.Subresource && last.Replicas == next.Replicas
	if last.Owner == next.Owner || renamed {
		next.Since = notAfter(now, last.Since)
		return next
	}
	next.Transfers = slices.Insert(next.Transfers, 0, v1beta1.ScaleTransfer{
		Time: now, From: last.Owner, To: next.Owner, FromReplicas: last.Replicas, ToReplicas: next.Replicas,
	})
	next.Transfers = next.Transfers[:min(len(next.Transfers), transfersKept)]
	return next
}

// notAfter returns a time, or now if the time is later.
func notAfter(now, at metav1.Time) metav1.Time {
	if at.After(now.Time) {
		return now
	}
	return at
}
