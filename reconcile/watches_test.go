package reconcile

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestAStatusThatOthersChangeIsLookedAt verifies that a status write of another writer triggers a pass, even if it only removes fields,
// which leaves no entry in managedFields. A status write of the operator triggers no pass.
func TestAStatusThatOthersChangeIsLookedAt(t *testing.T) {
	server := func(reported int64, phase v1beta1.Phase) *v1beta1.MCPServer {
		server := &v1beta1.MCPServer{Status: v1beta1.MCPServerStatus{Phase: phase}}
		if reported > 0 {
			at := metav1.Unix(reported, 0)
			server.ManagedFields = []metav1.ManagedFieldsEntry{{
				Manager: applyconfigs.FieldManager, Operation: metav1.ManagedFieldsOperationApply, Subresource: "status", Time: &at,
			}}
		}
		return server
	}
	for _, row := range []struct {
		name          string
		before, after *v1beta1.MCPServer
		looks         bool
	}{
		{"the operator writes for the first time", server(0, ""), server(1, v1beta1.PhaseReady), false},
		{"the operator writes again", server(1, v1beta1.PhasePending), server(2, v1beta1.PhaseReady), false},
		{"another writer writes", server(1, v1beta1.PhaseReady), server(1, v1beta1.PhaseFailed), true},
		{"another writer removes a field", server(1, v1beta1.PhaseReady), server(1, ""), true},
		{"another writer writes first", server(0, ""), server(0, v1beta1.PhaseReady), true},
		{"another writer removes the status", server(1, v1beta1.PhaseReady), server(0, ""), true},
		{"the spec changes", server(1, v1beta1.PhaseReady), server(1, v1beta1.PhaseReady), false},
	} {
		if got := statusChangedByOthers.Update(event.UpdateEvent{ObjectOld: row.before, ObjectNew: row.after}); got != row.looks {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestWhatIsToBeCarriedOutComesBeforeReports verifies the priorities. If an MCPServer was edited, or its child was deleted or changed by another
// writer, it does not wait for MCPServers that most likely need only a status write.
func TestWhatIsToBeCarriedOutComesBeforeReports(t *testing.T) {
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	set := func(server string, managers ...string) *appsv1.StatefulSet {
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: server, ResourceVersion: fmt.Sprint(len(managers)),
		}}
		for _, manager := range managers {
			set.ManagedFields = append(set.ManagedFields, metav1.ManagedFieldsEntry{Manager: manager})
		}
		return set
	}
	childHandler.Create(t.Context(), event.CreateEvent{Object: set("created")}, queue)
	childHandler.Update(t.Context(), event.UpdateEvent{ObjectOld: set("updated"), ObjectNew: set("updated")}, queue)
	edited := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "edited", ResourceVersion: "2"}}
	(&handler.EnqueueRequestForObject{}).Update(t.Context(), event.UpdateEvent{ObjectOld: &v1beta1.MCPServer{}, ObjectNew: edited}, queue)
	childHandler.Delete(t.Context(), event.DeleteEvent{Object: set("deleted")}, queue)
	childHandler.Update(t.Context(), event.UpdateEvent{ObjectOld: set("taken"), ObjectNew: set("taken", "kubectl")}, queue)
	for _, want := range []string{"edited", "deleted", "taken", "created", "updated"} {
		next, _ := queue.Get()
		if next.Name != want {
			t.Errorf("the next is %q, not %q", next.Name, want)
		}
		queue.Done(next)
	}
}

// TestWhatWasMissedComesBeforeTheRestAtAStart verifies the order of the passes after a restart: first an edit that is made while the initial passes
// run, then the MCPServers that were created or edited while no operator ran, then the others.
func TestWhatWasMissedComesBeforeTheRestAtAStart(t *testing.T) {
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	server := func(name string, generation, observed int64) *v1beta1.MCPServer {
		return &v1beta1.MCPServer{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Generation: generation, ResourceVersion: fmt.Sprint(generation)},
			Status:     v1beta1.MCPServerStatus{ObservedGeneration: observed},
		}
	}
	forMCPServers := &handler.EnqueueRequestForObject{}
	for _, existing := range []*v1beta1.MCPServer{server("unchanged", 2, 2), server("edited", 3, 2), server("created", 1, -1), server("changing", 1, 1)} {
		created := event.CreateEvent{Object: existing, IsInInitialList: true}
		forMCPServers.Create(t.Context(), created, queue)
		missedHandler.Create(t.Context(), created, queue)
	}
	forMCPServers.Update(t.Context(), event.UpdateEvent{ObjectOld: server("changing", 1, 1), ObjectNew: server("changing", 2, 1)}, queue)
	for _, want := range []string{"changing", "edited", "created", "unchanged"} {
		next, _ := queue.Get()
		if next.Name != want {
			t.Errorf("the next is %q, not %q", next.Name, want)
		}
		queue.Done(next)
	}
}

func TestWhoHasChangedAChild(t *testing.T) {
	entry := func(manager, subresource string, at int64, fields string) metav1.ManagedFieldsEntry {
		time := metav1.Unix(at, 0)
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: &time, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	ours := entry(applyconfigs.FieldManager, "", 1, `{"f:spec":{},"f:metadata":{}}`)
	for _, row := range []struct {
		name       string
		entry      metav1.ManagedFieldsEntry
		generation int64
		byOthers   bool
	}{
		{"nobody", ours, 1, false},
		{"the operator", entry(applyconfigs.FieldManager, "", 2, `{"f:spec":{}}`), 2, false},
		{"another writer, which removes a field of the operator", entry(applyconfigs.FieldManager, "", 1, `{"f:spec":{}}`), 1, true},
		{"a controller, in its status", entry("kube-controller-manager", "status", 2, `{"f:status":{}}`), 1, false},
		{"kubectl scale", entry("kubectl", "scale", 2, `{"f:spec":{}}`), 2, true},
		{"kubectl label", entry("kubectl-label", "", 2, `{"f:metadata":{}}`), 1, true},
		{"a writer without an entry", ours, 2, true},
	} {
		before, after := &appsv1.StatefulSet{}, &appsv1.StatefulSet{}
		before.Generation, before.ManagedFields = 1, []metav1.ManagedFieldsEntry{ours}
		after.Generation, after.ManagedFields = row.generation, []metav1.ManagedFieldsEntry{row.entry}
		if got := changedByOthers(before, after); got != row.byOthers {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestAnotherObjectOfTheSameNameIsLookedAt: behind an interrupted watch, an MCPServer that is deleted and created again is an update, in which
// neither the generation nor the status needs to differ.
func TestAnotherObjectOfTheSameNameIsLookedAt(t *testing.T) {
	before := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "old", Generation: 1}}
	after := before.DeepCopy()
	if specOrMetadataChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("an unchanged object triggers a pass")
	}
	after.UID = "new"
	if !specOrMetadataChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("another object of the same name does not trigger a pass")
	}
}

// TestALostRecordOfOwnershipIsNoticed verifies that the loss of the operator's entry in managedFields triggers a pass.
func TestALostRecordOfOwnershipIsNoticed(t *testing.T) {
	entry := metav1.ManagedFieldsEntry{Manager: applyconfigs.FieldManager, Operation: metav1.ManagedFieldsOperationApply}
	before := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{entry, {Manager: "kubectl"}}}}
	lost, kept := before.DeepCopy(), before.DeepCopy()
	lost.ManagedFields, kept.ManagedFields = before.ManagedFields[1:], before.ManagedFields[:1]
	if !ownershipLost.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: lost}) {
		t.Error("the loss of the operator's entry does not trigger a pass")
	}
	if ownershipLost.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: kept}) {
		t.Error("the loss of another manager's entry triggers a pass")
	}
}

// TestOwnersChanged verifies that a change of the owner references triggers a pass, and that a status write does not.
func TestOwnersChanged(t *testing.T) {
	before := &policyv1.PodDisruptionBudget{}
	status := before.DeepCopy()
	status.Status.CurrentHealthy = 3
	if ownersChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: status}) {
		t.Error("a status write triggers a pass")
	}
	given := before.DeepCopy()
	given.OwnerReferences = []metav1.OwnerReference{{Kind: "MCPServer", Name: "web"}}
	if !ownersChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: given}) {
		t.Error("an added owner reference does not trigger a pass")
	}
	if !ownersChanged.Update(event.UpdateEvent{ObjectOld: given, ObjectNew: before}) {
		t.Error("a removed owner reference does not trigger a pass")
	}
}
