package storm

import (
	"errors"
	"slices"
	"testing"

	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/tests/cluster"
)

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

// TestTheSameNumberDeclaredAgain: a declaration is removed, and the same is declared again after the 1st, 2nd, … write of the
// operator, before it could go on. It is carried out anew: the scale belongs to the operator, not to nobody.
func TestTheSameNumberDeclaredAgain(t *testing.T) {
	removed := transition{
		declared: ptr.To[int32](3), policy: v1alpha1.ReplicasConflictYield,
		changes: changes(editServer(`{"spec":{"replicas":null}}`)), wanted: 3, allowed: []int32{3},
	}
	again := func(t *testing.T, after int32) (crashed bool) {
		w := newWorld(t)
		defer w.close(t)
		crashed = cutOff(t, w, removed.happen(t, w), after)
		editServer(`{"spec":{"replicas":3}}`)(t, w)
		succeed(t, w, removed)
		owners, err := cluster.OwnersOfReplicas(w.statefulSet(t))
		check(t, err)
		if !slices.Equal(owners, []string{applyconfigs.FieldManager + "/Apply"}) {
			t.Errorf("declared again after write %d, the scale belongs to %q", after, owners)
		}
		return crashed
	}
	after := int32(1)
	for again(t, after) {
		after++
	}
	if after == 1 {
		t.Fatal("the operator sent no write: there was nothing to declare again in")
	}
}

// crashOnce reports whether the operator sent so many writes that it crashed.
func crashOnce(t rapid.TB, tr transition, after int32) bool {
	w := newWorld(t)
	defer w.close(t)
	crashed := cutOff(t, w, tr.happen(t, w), after)
	succeed(t, w, tr)
	return crashed
}

// cutOff lets an operator run until it is cut off after a number of writes, or has nothing left to do.
func cutOff(t rapid.TB, w *world, o *operatorUnderTest, after int32) (crashed bool) {
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
	return o.crashed.Load()
}

// succeed lets the next operator bring a transition to its end, and judges it.
func succeed(t rapid.TB, w *world, tr transition) {
	successor, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{successor}
	w.run(t, successor)

	tr.judge(t, w)
}
