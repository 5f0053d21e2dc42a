package reconcile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// transfersKept is how many transfers of the scale the status remembers.
const transfersKept = 5

// nextScale says who decides the scale of a StatefulSet that exists, and remembers who did before.
func nextScale(p *pass) *v1alpha1.ScaleStatus {
	next := &v1alpha1.ScaleStatus{
		Replicas: replicasOf(p.children.statefulSet),
		Owner:    p.scaleOwner(),
	}
	if owner := p.currentScaleOwner(); owner != nil {
		next.Manager, next.Operation, next.Subresource = owner.Name, owner.Operation, owner.Subresource
	}
	if p.server.Spec.Replicas != nil {
		next.DeclaredReplicas = p.carriedOut()
	}
	last := p.server.Status.Scale
	if last != nil && last.TakeBacks != nil && stillCounts(last.TakeBacks, p.now.Time) {
		next.TakeBacks = last.TakeBacks
	}
	return remember(last, next, p.now)
}

// scaleAfterWrite is the scale after the verdict of a pass was carried out. It does not wait for the next pass to see
// it: by then somebody could have deleted the StatefulSet or edited the annotation, and what was declared, at what
// scale, and how often it was taken back would be forgotten. The status has to have a scale already.
func scaleAfterWrite(p *pass) *v1alpha1.ScaleStatus {
	last := p.server.Status.Scale
	next := last.DeepCopy()
	next.DeclaredReplicas = p.verdict.Apply.Declared
	switch p.verdict.Action {
	case scaleDeclare, scaleTakeBack:
		next.Replicas = *p.verdict.Apply.Replicas
		next.Owner = v1alpha1.ScaleOwnerMCPServer
		next.Manager, next.Operation, next.Subresource = applyconfigs.FieldManager, metav1.ManagedFieldsOperationApply, ""
	case scaleRelease:
		next.Replicas = replicasOf(p.children.statefulSet)
		next.Owner = v1alpha1.ScaleOwnerUnclaimed
		next.Manager, next.Operation, next.Subresource = "", "", ""
	case scaleRestore:
		next.Replicas = *p.verdict.Apply.Replicas
	default: // the others write no scale
	}
	if p.verdict.Action == scaleTakeBack {
		next.TakeBacks = countTakeBack(next.TakeBacks, p.scaleOwner(), p.now)
	}
	return remember(last, next, p.now)
}

// remember carries over to next what the last scale says of the time before.
func remember(last, next *v1alpha1.ScaleStatus, now metav1.Time) *v1alpha1.ScaleStatus {
	next.Since, next.Transfers = now, nil
	if last == nil {
		return next
	}
	next.Transfers = last.Transfers
	// An autoscaler that is deleted, or adopted by KEDA, changes the name of the owner, but not who wrote.
	renamed := last.Manager == next.Manager && last.Operation == next.Operation &&
		last.Subresource == next.Subresource && last.Replicas == next.Replicas
	if last.Owner == next.Owner || renamed {
		next.Since = last.Since
		return next
	}
	next.Transfers = append([]v1alpha1.ScaleTransfer{{
		Time: now, From: last.Owner, To: next.Owner, FromReplicas: last.Replicas, ToReplicas: next.Replicas,
	}}, last.Transfers...)
	next.Transfers = next.Transfers[:min(len(next.Transfers), transfersKept)]
	return next
}
