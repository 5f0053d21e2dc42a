package act

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	crdac "mcpserver-operator/applyconfigs/crd/v1beta1"
	"mcpserver-operator/crd/v1beta1"
)

// StatusWriter writes the status of MCPServers.
type StatusWriter struct {
	// Client writes to the API server.
	Client client.Client
	// Written is called after a write, with the MCPServer before the write and its new status.
	Written func(before *v1beta1.MCPServer, now v1beta1.MCPServerStatus)
	// Unanswered is called after a write that the API server may or may not have carried out.
	Unanswered func(server *v1beta1.MCPServer)

	writes statusWrites
}

// Write writes the status if it differs from the status of server, and updates server. It returns a conflict if the cached MCPServer is
// stale, because a stale record of the scale must not replace a newer record.
func (w *StatusWriter) Write(ctx context.Context, server *v1beta1.MCPServer, status v1beta1.MCPServerStatus) error {
	if equality.Semantic.DeepEqual(server.Status, status) {
		return nil
	}
	return w.Put(ctx, server, status)
}

// Put is like Write, but also writes a status that equals the status of server: another writer may have changed the status on the API server.
func (w *StatusWriter) Put(ctx context.Context, server *v1beta1.MCPServer, status v1beta1.MCPServerStatus) error {
	want := crdac.MCPServer(server.Name, server.Namespace).
		WithUID(server.UID).
		WithResourceVersion(server.ResourceVersion).
		WithStatus(statusConfiguration(&status))
	err := w.Client.Status().Apply(ctx, want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) {
		return nil // the MCPServer was deleted
	}
	if scaleOnly := withScale(server.Status, status.Scale); apierrors.IsInvalid(err) && !IsStale(err) &&
		!equality.Semantic.DeepEqual(server.Status, scaleOnly) && !equality.Semantic.DeepEqual(status, scaleOnly) {
		// Another part of the status is invalid. The record of the scale must be written in any case.
		return errors.Join(fmt.Errorf("writing the status: %w", err), w.Write(ctx, server, scaleOnly))
	}
	if err != nil {
		if isUnanswered(err) {
			w.Unanswered(server)
		}
		return fmt.Errorf("writing the status: %w", err)
	}
	w.Written(server, status)
	// Apply has decoded the response into want. Later writes of this pass use its resourceVersion.
	server.ResourceVersion, server.Status = *want.ResourceVersion, status
	w.writes.remember(server)
	return nil
}

// withScale returns a copy of a status with another scale.
func withScale(status v1beta1.MCPServerStatus, scale *v1beta1.ScaleStatus) v1beta1.MCPServerStatus {
	status = *status.DeepCopy()
	status.Scale = scale
	return status
}

// IsAhead reports whether the last status write created a newer version of an MCPServer than the cached version.
func (w *StatusWriter) IsAhead(cached *v1beta1.MCPServer) bool { return w.writes.areAhead(cached) }

// Forget removes a deleted MCPServer.
func (w *StatusWriter) Forget(server client.ObjectKey) { w.writes.forget(server) }

func statusConfiguration(status *v1beta1.MCPServerStatus) *crdac.MCPServerStatusApplyConfiguration {
	to := crdac.MCPServerStatus().
		WithObservedGeneration(status.ObservedGeneration).
		WithReady(status.Ready).
		WithReplicas(status.Replicas).
		WithReadyReplicas(status.ReadyReplicas).
		WithSelector(status.Selector).
		WithURL(status.URL)
	// The phase is empty if another client has removed the status. The schema rejects an empty phase.
	if status.Phase != "" {
		to.WithPhase(status.Phase)
	}
	if status.Scale != nil {
		to.WithScale(scaleConfiguration(status.Scale))
	}
	if image := status.Image; image != nil {
		to.WithImage(crdac.ImageStatus().WithReference(image.Reference).WithDigest(image.Digest).WithEntrypoint(image.Entrypoint...).WithCmd(image.Cmd...))
	}
	for _, kept := range status.KeptFields {
		to.WithKeptFields(crdac.KeptFields().WithKind(kept.Kind).WithName(kept.Name).WithManager(kept.Manager).WithFields(kept.Fields...))
	}
	for _, condition := range status.Conditions {
		if !slices.Contains(v1beta1.Conditions, condition.Type) {
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

func scaleConfiguration(scale *v1beta1.ScaleStatus) *crdac.ScaleStatusApplyConfiguration {
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
