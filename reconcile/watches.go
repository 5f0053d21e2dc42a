package reconcile

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// specOrMetadataChanged ignores status updates.
var specOrMetadataChanged = predicate.Or(
	replaced,
	predicate.GenerationChangedPredicate{},
	predicate.LabelChangedPredicate{},
	predicate.AnnotationChangedPredicate{},
	finalizersChanged,
)

// finalizersChanged accepts a change of the finalizers, which does not change the generation.
var finalizersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetFinalizers(), e.ObjectNew.GetFinalizers())
}}

// replaced accepts another object of the same name. If a watch is interrupted while an object is deleted and created again, the cache reports
// an update, and the new object may have the same generation as the old one.
var replaced = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() }}

// ownersChanged accepts a change of the owner references, which does not change the generation.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}

// ownershipLost accepts the removal of the operator from managedFields, which does not change the generation.
var ownershipLost = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return ownership.Has(e.ObjectOld, observe.Self) && !ownership.Has(e.ObjectNew, observe.Self)
}}

// statusChangedByOthers ignores status writes of the operator, which set a later time in its entry in managedFields. A status
// write of another writer must be corrected, because the status has the scale of a recreated StatefulSet. A writer that removes
// fields may leave no entry in managedFields, and a writer that removes the status removes the entry of the operator with it. Two status writes of the operator within one second also trigger a pass, which has
// nothing to do.
var statusChangedByOthers = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	DeleteFunc: func(event.DeleteEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*v1beta1.MCPServer)
		after, isAfter := e.ObjectNew.(*v1beta1.MCPServer)
		if !isBefore || !isAfter || equality.Semantic.DeepEqual(before.Status, after.Status) {
			return false
		}
		reported := observe.ReportedAt(after)
		return reported == nil || reported.Equal(observe.ReportedAt(before))
	},
}

// statusHandler requests a delayed pass over an MCPServer whose status another writer has changed. Without the delay, the operator
// would answer repeated writes as fast as they arrive.
var statusHandler = handler.Funcs{
	UpdateFunc: func(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		queue.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.ObjectNew)}, settleAfter)
	},
}

// reportPriority is the priority of passes that most likely only write the status. Passes that write children come first, because
// users wait for them. It is also the priority of the objects that exist at the start of the operator.
const reportPriority = handler.LowPriority

// missedPriority is the priority of passes over MCPServers that were created, or whose spec was changed, while no operator ran. They come before the
// other objects that exist at the start of the operator. They come after changes that users make from then on, because there may be many of them.
const missedPriority = reportPriority / 2

// missedHandler requests a pass over an MCPServer whose generation is not in its status. At the start of the operator, such an MCPServer was
// created, or its spec was changed, while no operator ran. Changes of labels and annotations do not count: they do not change the generation.
var missedHandler = handler.Funcs{
	CreateFunc: func(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		server, isServer := e.Object.(*v1beta1.MCPServer)
		if e.IsInInitialList && isServer && server.Status.ObservedGeneration != server.Generation {
			enqueue(queue, missedPriority, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(server)})
		}
	},
}

// childHandler requests a pass over the MCPServer of a child. A new child was usually created by this operator, and the pass only
// writes the status. After a change by another writer the operator may have to restore the child, and after a deletion it creates
// the child again.
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

// changedByOthers reports whether another writer has changed more of an object than its status. If a writer removes fields that the
// operator has applied, the entry of the operator in managedFields has fewer fields and the same time. A write through the subresource
// scale that Kubernetes does not record is a new generation without a change of the operator.
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

// isAsOldIn reports whether before has an entry with the same manager and the same time.
func isAsOldIn(before []metav1.ManagedFieldsEntry, entry metav1.ManagedFieldsEntry) bool {
	return slices.ContainsFunc(before, func(old metav1.ManagedFieldsEntry) bool {
		return ownership.ManagerOf(old) == ownership.ManagerOf(entry) && old.Time.Equal(entry.Time)
	})
}

// isNewIn reports whether an entry of managedFields is not in before.
func isNewIn(before []metav1.ManagedFieldsEntry, entry metav1.ManagedFieldsEntry) bool {
	return !slices.ContainsFunc(before, func(old metav1.ManagedFieldsEntry) bool {
		return equality.Semantic.DeepEqual(old, entry)
	})
}

// reportHandler requests passes with reportPriority.
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

// enqueueReports adds requests with reportPriority.
func enqueueReports(queue workqueue.TypedRateLimitingInterface[reconcile.Request], requests []reconcile.Request) {
	enqueue(queue, reportPriority, requests...)
}

// enqueue adds requests to the queue of the controller, which is always a priority queue.
func enqueue(queue workqueue.TypedRateLimitingInterface[reconcile.Request], priority int, requests ...reconcile.Request) {
	queue.(priorityqueue.PriorityQueue[reconcile.Request]).AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, requests...)
}

// serversOfChild maps a child to its MCPServer by name, not by owner reference. The name of an MCPServer determines the
// names of its children, and the operator must notice when a foreign object with such a name is deleted.
func serversOfChild(_ context.Context, child client.Object) []reconcile.Request {
	name, ok := observe.ServerOf(child)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: child.GetNamespace(), Name: name}}}
}
