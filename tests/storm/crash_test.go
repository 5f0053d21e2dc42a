package storm

import (
	"errors"
	"testing"

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
	changes []func(t rapid.TB, w *world)
	// wanted is the scale in the end.
	wanted int32
	// allowed are the scales in between.
	allowed []int32
}

func scaleTo(replicas int32) func(rapid.TB, *world) {
	return func(t rapid.TB, w *world) {
		check(t, theCluster.Client.SubResource("scale").Patch(w.ctx, w.statefulSet(t),
			mergePatch(`{"spec":{"replicas":%d}}`, replicas), client.FieldOwner("kubectl")))
	}
}

func editServer(patch string) func(rapid.TB, *world) {
	return func(t rapid.TB, w *world) { w.patchServer(t, "%s", patch) }
}

func changes(all ...func(rapid.TB, *world)) []func(rapid.TB, *world) { return all }

var transitions = []transition{
	{"creation, delegated", nil, v1alpha1.ReplicasConflictYield, nil, 1, []int32{1}},
	{"creation, declared", ptr.To[int32](3), v1alpha1.ReplicasConflictYield, nil, 3, []int32{3}},
	{"delegated, then declared", nil, v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), editServer(`{"spec":{"replicas":2}}`)), 2, []int32{1, 5, 2}},
	{"declared, then released", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":null}}`)), 3, []int32{3}},
	{"declared, then released and another image", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":null,"image":"registry.example/server:2"}}`)), 3, []int32{3}},
	{"declared, then changed", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(editServer(`{"spec":{"replicas":4}}`)), 4, []int32{3, 4}},
	{"declared, then yielded", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5)), 5, []int32{3, 5}},
	{"declared, then taken back", ptr.To[int32](3), v1alpha1.ReplicasConflictForce,
		changes(scaleTo(5)), 3, []int32{3, 5}},
	{"yielded, then Force", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), editServer(`{"spec":{"replicasConflictPolicy":"Force"}}`)), 3, []int32{3, 5}},
	{"delegated, deleted, restored", nil, v1alpha1.ReplicasConflictYield,
		changes(scaleTo(7), deleteTheStatefulSet), 7, []int32{1, 7}},
	{"yielded, deleted, restored", ptr.To[int32](3), v1alpha1.ReplicasConflictYield,
		changes(scaleTo(5), deleteTheStatefulSet), 5, []int32{3, 5}},
}

func deleteTheStatefulSet(t rapid.TB, w *world) {
	set := w.statefulSet(t)
	check(t, theCluster.Client.Delete(w.ctx, set, client.PropagationPolicy(metav1.DeletePropagationOrphan)))
	w.waitGone(t, set.UID)
}

// TestCrashAfterEachWrite: for each transition the operator is cut off after its 1st, 2nd, … write, whose effect is on
// the server but whose answer never arrives. The next operator brings it to the right end, without a wrong scale in
// between.
func TestCrashAfterEachWrite(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			for after := int32(1); ; after++ {
				t.Logf("cut off after write %d", after)
				if crashed := crashOnce(t, tr, after); !crashed {
					if after == 1 {
						t.Fatal("the operator sent no write: there was nothing to crash in")
					}
					return
				}
			}
		})
	}
}

// crashOnce reports whether the operator sent so many writes that it crashed.
func crashOnce(t rapid.TB, tr transition, after int32) bool {
	w := newWorld(t)
	defer w.close(t)
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

	o.crashIn.Store(after)
	for quiet := 0; quiet < 2 && !o.crashed.Load(); {
		writes, err := o.pass(w.ctx, w, 0, 0)
		if err != nil && !errors.Is(err, errCutOff) {
			t.Fatal(err)
		}
		if writes > 0 {
			quiet = 0
		} else {
			quiet++
		}
	}
	crashed := o.crashed.Load()
	successor, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{successor}
	w.run(t, successor)

	w.model.replicas, w.allowed = tr.wanted, tr.allowed
	w.judge(t)
	return crashed
}
