package storm

import (
	"cmp"
	"math/rand/v2"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/scale"
)

// transition is a sequence of changes, most of which change who decides the scale.
type transition struct {
	name     string
	declared *int32
	policy   v1beta1.ReplicasConflictPolicy
	// changes are the changes of users and other clients. The operator runs after the creation and after each change. It crashes only after
	// the last change.
	changes []change
	// wanted is the final scale.
	wanted int32
	// allowed are all scales that may occur.
	allowed []int32
	// rollouts is how often the pod template may change. Image is the final image. If empty, the image does not change.
	rollouts int
	image    string
	// events are the reasons of all events since the creation.
	events []string
}

// change is one change of a user or another client.
type change func(t rapid.TB, w *world)

// and adds another change, which happens before the operator runs.
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
	{name: "creation, delegated", wanted: 1, allowed: []int32{1}},
	{name: "creation, declared", declared: ptr.To[int32](3), wanted: 3, allowed: []int32{3}},
	{
		name:    "delegated, then declared",
		changes: changes(scaleTo(5), editServer(`{"spec":{"replicas":2}}`)),
		wanted:  2, allowed: []int32{1, 5, 2}, events: []string{"ScaleTransferred", "ScaleDeclared"},
	},
	{
		name: "declared, then released", declared: ptr.To[int32](3),
		changes: changes(editServer(`{"spec":{"replicas":null}}`)),
		wanted:  3, allowed: []int32{3}, events: []string{"ScaleReleased"},
	},
	{
		name: "declared, then released and another image", declared: ptr.To[int32](3),
		changes: changes(editServer(`{"spec":{"replicas":null,"image":"registry.example/server:2"}}`)),
		wanted:  3, allowed: []int32{3}, rollouts: 1, image: "registry.example/server:2", events: []string{"ScaleReleased"},
	},
	{
		name:    "delegated, then another image and declared",
		changes: changes(editServer(`{"spec":{"image":"registry.example/server:2"}}`).and(editServer(`{"spec":{"replicas":5}}`))),
		wanted:  5, allowed: []int32{1, 5}, rollouts: 1, image: "registry.example/server:2", events: []string{"ScaleDeclared"},
	},
	{
		// The operator must not apply the template of an older generation after that of a newer generation.
		name: "another image, and another",
		changes: changes(editServer(`{"spec":{"image":"registry.example/server:2"}}`),
			editServer(`{"spec":{"image":"registry.example/server:3"}}`)),
		wanted: 1, allowed: []int32{1}, rollouts: 2, image: "registry.example/server:3",
	},
	{
		name: "declared, then changed", declared: ptr.To[int32](3),
		changes: changes(editServer(`{"spec":{"replicas":4}}`)),
		wanted:  4, allowed: []int32{3, 4},
	},
	{
		name: "declared, then yielded", declared: ptr.To[int32](3),
		changes: changes(scaleTo(5)),
		wanted:  5, allowed: []int32{3, 5}, events: []string{"ScaleYielded"},
	},
	{
		name: "declared, then taken back", declared: ptr.To[int32](3), policy: v1beta1.ReplicasConflictForce,
		changes: changes(scaleTo(5)),
		wanted:  3, allowed: []int32{3, 5}, events: []string{"ScaleTakenBack"},
	},
	{
		name: "yielded, then Force", declared: ptr.To[int32](3),
		changes: changes(scaleTo(5), editServer(`{"spec":{"replicasConflictPolicy":"Force"}}`)),
		wanted:  3, allowed: []int32{3, 5}, events: []string{"ScaleYielded", "ScaleTakenBack"},
	},
	{
		name: "yielded, released, the same number declared again", declared: ptr.To[int32](3),
		changes: changes(scaleTo(5), editServer(`{"spec":{"replicas":null}}`), editServer(`{"spec":{"replicas":3}}`)),
		wanted:  3, allowed: []int32{3, 5}, events: []string{"ScaleYielded", "ScaleDeclared"},
	},
	{
		name:    "delegated, deleted, restored",
		changes: changes(scaleTo(7), deleteTheStatefulSet),
		wanted:  7, allowed: []int32{1, 7}, events: []string{"ScaleTransferred", "ScaleRestored", "ScaleReleased"},
	},
	{
		name: "yielded, deleted, restored", declared: ptr.To[int32](3),
		changes: changes(scaleTo(5), deleteTheStatefulSet),
		wanted:  5, allowed: []int32{3, 5},
		// The last event is a new conflict: managedFields name no owner of the restored scale.
		events: []string{"ScaleYielded", "ScaleRestored", "ScaleReleased", "ScaleYielded"},
	},
	{
		name: "declared, the record of ownership lost, then released", declared: ptr.To[int32](3),
		changes: changes(loseOwnership, editServer(`{"spec":{"replicas":null,"image":"registry.example/server:2"}}`)),
		wanted:  3, allowed: []int32{3}, rollouts: 1, image: "registry.example/server:2", events: []string{"ScaleReleased"},
	},
	{
		name: "taken back in a fight, then another number declared", declared: ptr.To[int32](3), policy: v1beta1.ReplicasConflictForce,
		changes: changes(scaleTo(5), scaleTo(6), scaleTo(5), scaleTo(6), editServer(`{"spec":{"replicas":4}}`)),
		wanted:  4, allowed: []int32{3, 4, 5, 6},
		events: []string{"ScaleTakenBack", "ScaleTakenBack", "ScaleTakenBack", "ScaleFight", "ScaleDeclared"},
	},
}

// loseOwnership removes managedFields of the StatefulSet.
func loseOwnership(t rapid.TB, w *world) {
	check(t, w.requests().LoseOwnership(w.ctx, w.statefulSet(t), rand.New(rand.NewPCG(1, 1))))
}

func deleteTheStatefulSet(t rapid.TB, w *world) {
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, set, client.PropagationPolicy(metav1.DeletePropagationOrphan)))
	w.waitGone(t, set.UID)
}

// happen runs a transition up to its last change. The returned operator has not seen the last change yet.
func (tr transition) happen(t rapid.TB, w *world) *operatorUnderTest {
	check(t, theCluster.Client.Create(w.ctx, &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.key.Namespace, Name: w.key.Name},
		Spec: v1beta1.MCPServerSpec{
			Image: image, Replicas: tr.declared, ReplicasConflictPolicy: tr.policy,
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

// judge judges the result of a transition.
func (tr transition) judge(t rapid.TB, w *world) {
	w.model.Replicas, w.allowed, w.rollouts = tr.wanted, tr.allowed, tr.rollouts
	w.judge(t)
	check(t, scale.JudgeTemplate(w.statefulSet(t), cmp.Or(tr.image, image), false))
}
