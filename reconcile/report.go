package reconcile

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	crdac "mcpserver-operator/applyconfigs/crd/v1alpha1"
	"mcpserver-operator/crd/v1alpha1"
)

// report writes the status once, at the end of a pass, if it differs, and records what is new in it. It fails with a
// conflict when the cache holds another version of the MCPServer than the API server.
func (r *Reconciler) report(ctx context.Context, p *pass, passErr error) error {
	status := nextStatus(p, passErr)
	p.postponed = r.progress.postpone(client.ObjectKeyFromObject(p.server), &p.server.Status, &status, p.now.Time)
	if p.postponed > 0 {
		status = p.server.Status
	}
	p.reported = !equality.Semantic.DeepEqual(p.server.Status, status)
	if err := r.writeStatus(ctx, p.server, status); err != nil {
		return err
	}
	if p.reported {
		r.progress.forget(client.ObjectKeyFromObject(p.server))
	}
	observeScaleOwner(p.server, status.Scale)
	return nil
}

// reportTerminating reports on an MCPServer that waits for its children to be deleted.
func (r *Reconciler) reportTerminating(ctx context.Context, server *v1alpha1.MCPServer) (reconcile.Result, error) {
	err := r.writeStatus(ctx, server, terminatingStatus(server, metav1.NewTime(r.Now()).Rfc3339Copy()))
	if isStale(err) {
		return repeatAfter(settleAfter, reportPriority), nil
	}
	return reconcile.Result{}, err
}

// writeStatus writes the status if it differs from what the object holds, and the object holds it afterwards.
func (r *Reconciler) writeStatus(ctx context.Context, server *v1alpha1.MCPServer, status v1alpha1.MCPServerStatus) error {
	if equality.Semantic.DeepEqual(server.Status, status) {
		return nil
	}
	want := crdac.MCPServer(server.Name, server.Namespace).
		WithUID(server.UID).
		// What the status remembers of the scale must not be replaced by what an older cache remembered.
		WithResourceVersion(server.ResourceVersion).
		WithStatus(statusConfiguration(&status))
	err := r.Client.Status().Apply(ctx, want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) {
		return nil // it was deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	r.recordNews(server, status)
	// Apply has decoded the answer into want. What follows in this pass builds on it.
	server.ResourceVersion, server.Status = *want.ResourceVersion, status
	r.statusWrites.remember(server)
	return nil
}

func statusConfiguration(status *v1alpha1.MCPServerStatus) *crdac.MCPServerStatusApplyConfiguration {
	to := crdac.MCPServerStatus().
		WithObservedGeneration(status.ObservedGeneration).
		WithPhase(status.Phase).
		WithReady(status.Ready).
		WithReplicas(status.Replicas).
		WithReadyReplicas(status.ReadyReplicas).
		WithSelector(status.Selector).
		WithURL(status.URL)
	if status.Scale != nil {
		to.WithScale(scaleConfiguration(status.Scale))
	}
	for _, condition := range status.Conditions {
		if !slices.Contains(ownConditions, condition.Type) {
			continue
		}
		to.WithConditions(metav1ac.Condition().
			WithType(condition.Type).
			WithStatus(condition.Status).
			WithObservedGeneration(condition.ObservedGeneration).
			WithLastTransitionTime(condition.LastTransitionTime).
			WithReason(condition.Reason).
			WithMessage(condition.Message))
	}
	return to
}

func scaleConfiguration(scale *v1alpha1.ScaleStatus) *crdac.ScaleStatusApplyConfiguration {
	to := crdac.ScaleStatus().
		WithReplicas(scale.Replicas).
		WithOwner(scale.Owner).
		WithSince(scale.Since)
	if scale.Manager != "" {
		to.WithManager(scale.Manager).WithOperation(scale.Operation)
	}
	if scale.Subresource != "" {
		to.WithSubresource(scale.Subresource)
	}
	if scale.DeclaredReplicas != nil {
		to.WithDeclaredReplicas(*scale.DeclaredReplicas)
	}
	if t := scale.TakeBacks; t != nil {
		to.WithTakeBacks(crdac.ScaleTakeBacks().WithFrom(t.From).WithCount(t.Count).WithSince(t.Since).WithLast(t.Last))
	}
	for _, transfer := range scale.Transfers {
		to.WithTransfers(crdac.ScaleTransfer().
			WithTime(transfer.Time).
			WithFrom(transfer.From).
			WithTo(transfer.To).
			WithFromReplicas(transfer.FromReplicas).
			WithToReplicas(transfer.ToReplicas))
	}
	return to
}
