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
	"mcpserver-operator/crd/v1alpha1"
)

// TestAStatusThatOthersChangeIsLookedAt: and one that only the operator changes is not.
func TestAStatusThatOthersChangeIsLookedAt(t *testing.T) {
	wrote := func(manager, subresource, field string) metav1.ManagedFieldsEntry {
		fields := &metav1.FieldsV1{}
		fields.SetRawBytes([]byte(`{"f:status":{"f:` + field + `":{}}}`))
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, FieldsType: "FieldsV1", FieldsV1: fields}
	}
	ours, theirs := wrote(applyconfigs.FieldManager, "status", "ready"), wrote("kubectl-patch", "status", "phase")
	for _, row := range []struct {
		name          string
		before, after []metav1.ManagedFieldsEntry
		looks         bool
	}{
		{"ours is new", nil, []metav1.ManagedFieldsEntry{ours}, false},
		{"ours has changed", []metav1.ManagedFieldsEntry{ours}, []metav1.ManagedFieldsEntry{wrote(applyconfigs.FieldManager, "status", "url")}, false},
		{"theirs is new", []metav1.ManagedFieldsEntry{ours}, []metav1.ManagedFieldsEntry{ours, theirs}, true},
		{"theirs has changed", []metav1.ManagedFieldsEntry{theirs}, []metav1.ManagedFieldsEntry{wrote("kubectl-patch", "status", "url")}, true},
		{"theirs has not", []metav1.ManagedFieldsEntry{ours, theirs}, []metav1.ManagedFieldsEntry{theirs, ours}, false},
		{"theirs is of the scale", nil, []metav1.ManagedFieldsEntry{wrote("kubectl", "scale", "phase")}, false},
	} {
		before, after := &v1alpha1.MCPServer{}, &v1alpha1.MCPServer{}
		before.ManagedFields, after.ManagedFields = row.before, row.after
		if got := statusChangedByOthers.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != row.looks {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestWhatIsToBeCarriedOutComesBeforeReports: an MCPServer that was edited, whose child is gone, or whose child somebody
// else has changed does not wait behind those that most likely have only to be reported on.
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
	edited := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "edited", ResourceVersion: "2"}}
	(&handler.EnqueueRequestForObject{}).Update(t.Context(), event.UpdateEvent{ObjectOld: &v1alpha1.MCPServer{}, ObjectNew: edited}, queue)
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

func TestWhoHasChangedAChild(t *testing.T) {
	entry := func(manager, subresource string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource}
	}
	ours := entry(applyconfigs.FieldManager, "")
	for _, row := range []struct {
		name       string
		entries    []metav1.ManagedFieldsEntry
		generation int64
		byOthers   bool
	}{
		{"the operator", []metav1.ManagedFieldsEntry{ours}, 2, false},
		{"a controller, in its status", []metav1.ManagedFieldsEntry{entry("kube-controller-manager", "status")}, 1, false},
		{"kubectl scale", []metav1.ManagedFieldsEntry{entry("kubectl", "scale")}, 2, true},
		{"kubectl label", []metav1.ManagedFieldsEntry{entry("kubectl-label", "")}, 1, true},
		{"somebody who is not recorded", nil, 2, true},
	} {
		before, after := &appsv1.StatefulSet{}, &appsv1.StatefulSet{}
		before.Generation, after.Generation, after.ManagedFields = 1, row.generation, row.entries
		if got := changedByOthers(before, after); got != row.byOthers {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestOwnersChanged: an object that is given to an MCPServer asks for a pass, a write of its status does not.
func TestOwnersChanged(t *testing.T) {
	before := &policyv1.PodDisruptionBudget{}
	status := before.DeepCopy()
	status.Status.CurrentHealthy = 3
	if ownersChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: status}) {
		t.Error("a status asks for a pass")
	}
	given := before.DeepCopy()
	given.OwnerReferences = []metav1.OwnerReference{{Kind: "MCPServer", Name: "web"}}
	if !ownersChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: given}) {
		t.Error("an object that is given to an MCPServer goes unnoticed")
	}
	if !ownersChanged.Update(event.UpdateEvent{ObjectOld: given, ObjectNew: before}) {
		t.Error("an object that is taken from an MCPServer goes unnoticed")
	}
}
