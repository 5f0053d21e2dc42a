package storm

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// transition is a change of who decides the scale. Each begins with a converged MCPServer.
type transition struct {
	name     string
	declared *int32
	policy   v1alpha1.ReplicasConflictPolicy
	// changes are what somebody does. The operator acts after the creation and after each change, and crashes after the
	// last.
	changes []change
	// wanted is the scale in the end.
	wanted int32
	// allowed are the scales in between.
	allowed []int32
	// events are the reasons of all events, from the creation to the end.
	events []string
}

// change is something that somebody does.
type change func(t rapid.TB, w *world)

// and does another thing before the operator can act.
func (c change) and(next change) change {
	return func(t rapid.TB, w *world) {
		c(t, w)
		next(t, w)
	}
}

func scaleTo(replicas int32) change {
	return func(t rapid.TB, w *world) {
		check(t, w.requests().PatchScale(w.ctx, replicas))
	}
}

func editServer(patch string) change {
	return func(t rapid.TB, w *world) { w.patchServer(t, "%s", patch) }
}

func changes(all ...change) []change { return all }

var transitions = []transition{
	{"creation, delegated", nil, v1alpha1.ReplicasConflictYield, nil, 1, []int32{1}, nil},
	{"creation, declared", ptr.To[int32](3), v1alpha1.ReplicasConflictYield, nil, 3, []int32{3}, nil},
	{"delegated, then declared", nil, v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), editServer(`{"spec":{"replicas":2}}`)), 2, []int32{1, 5, 2}, []string{"ScaleTransferred", "ScaleDeclared"}},
	{"declared, then released", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":null}}`)), 3, []int32{3}, []string{"ScaleReleased"}},
	{"declared, then released and another image", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":null,"image":"registry.example/server:2"}}`)), 3, []int32{3}, []string{"ScaleReleased"}},
	{"delegated, then another image and declared", nil, v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"image":"registry.example/server:2"}}`).and(editServer(`{"spec":{"replicas":5}}`))), 5, []int32{1, 5}, []string{"ScaleDeclared"}},
	{"declared, then changed", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":4}}`)), 4, []int32{3, 4}, nil},
	{"declared, then yielded", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5)), 5, []int32{3, 5}, []string{"ScaleYielded"}},
	{"declared, then taken back", ptr.To[int32](3), v1alpha1.ReplicasConflictForce,
		changes(scaleTo(5)), 3, []int32{3, 5}, []string{"ScaleTakenBack"}},
	{"yielded, then Force", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), editServer(`{"spec":{"replicasConflictPolicy":"Force"}}`)), 3, []int32{3, 5}, []string{"ScaleYielded", "ScaleTakenBack"}},
	{"yielded, released, the same number declared again", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), editServer(`{"spec":{"replicas":null}}`), editServer(`{"spec":{"replicas":3}}`)), 3, []int32{3, 5},
		[]string{"ScaleYielded", "ScaleDeclared"}},
	{"delegated, deleted, restored", nil, v1alpha1.ReplicasConflictYield,
		changes(scaleTo(7), deleteTheStatefulSet), 7, []int32{1, 7}, []string{"ScaleTransferred", "ScaleRestored", "ScaleReleased"}},
	{"yielded, deleted, restored", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), deleteTheStatefulSet), 5, []int32{3, 5}, // The last one is another conflict: nobody on record holds the restored scale.
		[]string{"ScaleYielded", "ScaleRestored", "ScaleReleased", "ScaleYielded"}},
}

func deleteTheStatefulSet(t rapid.TB, w *world) {
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, set, client.PropagationPolicy(metav1.DeletePropagationOrphan)))
	w.waitGone(t, set.UID)
}

// happen lets a transition happen up to its last change, which the operator has not seen yet. It returns the operator.
func (tr transition) happen(t rapid.TB, w *world) *operatorUnderTest {
	check(t, theCluster.Client.Create(w.ctx, &v1alpha1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
		Spec: v1alpha1.MCPServerSpec{
			Image: "registry.example/server:1", Replicas: tr.declared, ReplicasConflictPolicy: tr.policy,
		},
	}))
	o, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{o}
	for _, change := range tr.changes {
		w.run(t, o)
		change(t, w)
	}
	return o
}
