package reconcile

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// specOrMetadataChanged ignores updates of a status.
var specOrMetadataChanged = predicate.Or(
	predicate.GenerationChangedPredicate{},
	predicate.LabelChangedPredicate{},
	predicate.AnnotationChangedPredicate{},
)

// ownersChanged notices that an object was given to an MCPServer or taken from it, which is no new generation.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}

// ownershipLost notices that somebody has removed the record of who owns the fields of an object, which is no new generation.
var ownershipLost = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return ownership.Has(e.ObjectOld, observe.Self) && !ownership.Has(e.ObjectNew, observe.Self)
}}

// statusChangedByOthers ignores the operator's own writes of the status, which show as a later time of its entry in
// managedFields. One of somebody else, who may have removed something and left no entry, has to be put right: the status is
// the record of the scale that a StatefulSet comes back at. Two of the operator's own within a second are looked at for
// nothing.
var statusChangedByOthers = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	DeleteFunc: func(event.DeleteEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*v1alpha1.MCPServer)
		after, isAfter := e.ObjectNew.(*v1alpha1.MCPServer)
		return isBefore && isAfter && observe.ReportedAt(before).Equal(observe.ReportedAt(after)) &&
			!equality.Semantic.DeepEqual(before.Status, after.Status)
	},
}

// statusHandler asks for a pass over an MCPServer whose status somebody else has changed, but not at once: whoever insists on
// it would otherwise be answered as fast as it can write.
var statusHandler = handler.Funcs{
	UpdateFunc: func(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		queue.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.ObjectNew)}, settleAfter)
	},
}

// reportPriority is that of passes that most likely have only to report. What has to be carried out comes first: somebody
// waits for it. It is also the priority of what is found at the start.
const reportPriority = handler.LowPriority

// childHandler asks for a pass over the MCPServer of a child. One that appears was nearly always created by this operator a
// moment ago, and there is nothing to do but to report on it. One that somebody else has changed may have to be put back,
// and one that goes comes back.
var childHandler = handler.Funcs{
	CreateFunc: reportHandler(serversOfChild).Create,
	UpdateFunc: func(ctx context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if changedByOthers(e.ObjectOld, e.ObjectNew) {
			handler.EnqueueRequestsFromMapFunc(serversOfChild).Update(ctx, e, queue)
		} else {
			enqueueReports(queue, serversOfChild(ctx, e.ObjectNew))
		}
	},
	DeleteFunc: handler.EnqueueRequestsFromMapFunc(serversOfChild).Delete,
}

// changedByOthers reports whether somebody else than the operator has changed more of an object than its status. Who removes
// what the operator has applied makes its entry smaller, and not younger. A write through the subresource scale that
// Kubernetes does not record shows as a new generation without a change of ours.
func changedByOthers(before, after client.Object) bool {
	ours := false
	for _, entry := range after.GetManagedFields() {
		switch {
		case entry.Subresource == "status" || !isNewIn(before.GetManagedFields(), entry):
		case entry.Manager == applyconfigs.FieldManager && !isAsOldIn(before.GetManagedFields(), entry):
			ours = true
		default:
			return true
		}
	}
	return !ours && after.GetGeneration() != before.GetGeneration()
}

// isAsOldIn reports whether the manager of an entry of managedFields has not written since before.
func isAsOldIn(before []metav1.ManagedFieldsEntry, entry metav1.ManagedFieldsEntry) bool {
	return slices.ContainsFunc(before, func(old metav1.ManagedFieldsEntry) bool {
		return ownership.ManagerOf(old) == ownership.ManagerOf(entry) && old.Time.Equal(entry.Time)
	})
}

// isNewIn reports whether an entry of managedFields is not among those from before.
func isNewIn(before []metav1.ManagedFieldsEntry, entry metav1.ManagedFieldsEntry) bool {
	return !slices.ContainsFunc(before, func(old metav1.ManagedFieldsEntry) bool {
		return equality.Semantic.DeepEqual(old, entry)
	})
}

// reportHandler asks for passes that have only to report.
func reportHandler(servers handler.MapFunc) handler.Funcs {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueueReports(queue, servers(ctx, e.Object))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueueReports(queue, servers(ctx, e.ObjectOld))
			enqueueReports(queue, servers(ctx, e.ObjectNew))
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueueReports(queue, servers(ctx, e.Object))
		},
	}
}

// enqueueReports adds requests to the queue of a controller, which is always one with priorities.
func enqueueReports(queue workqueue.TypedRateLimitingInterface[reconcile.Request], requests []reconcile.Request) {
	queue.(priorityqueue.PriorityQueue[reconcile.Request]).AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(reportPriority)}, requests...)
}

// serversOfChild maps a child to its MCPServer by name, not by owner reference: the name of an MCPServer decides the
// names of its children, and an object of such a name that is not ours has to be noticed when it goes away.
func serversOfChild(_ context.Context, child client.Object) []reconcile.Request {
	name, ok := observe.ServerOf(child)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: child.GetNamespace(), Name: name}}}
}
