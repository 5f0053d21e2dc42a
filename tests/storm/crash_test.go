package storm

import (
	"errors"
	"slices"
	"testing"

	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestCrashAfterEachWrite verifies that an operator can crash after any of its writes. In each transition, the operator is cut off after its
// 1st, 2nd, … write: the API server carries out the write, but the operator gets no answer. The next operator must finish the transition, and
// the scale must never be wrong in between.
func TestCrashAfterEachWrite(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			for after := int32(1); ; after++ {
				t.Logf("cut off after write %d", after)
				if crashed := crashOnce(t, tr, after); !crashed {
					if after == 1 {
						t.Fatal("the operator sent no write, so the test did not test a crash")
					}
					return
				}
			}
		})
	}
}

// TestTheSameNumberDeclaredAgain verifies that the operator carries out a declaration that a user removes and then restores. The user
// declares the same number again after the 1st, 2nd, … write of the operator, which is then cut off. In the end, the operator must own the
// scale.
func TestTheSameNumberDeclaredAgain(t *testing.T) {
	removed := transition{
		declared: ptr.To[int32](3), policy: v1beta1.ReplicasConflictYield,
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
			t.Errorf("declared again after write %d, the owners of the scale are %q", after, owners)
		}
		return crashed
	}
	after := int32(1)
	for again(t, after) {
		after++
	}
	if after == 1 {
		t.Fatal("the operator sent no write, so the test did not declare the number again in between")
	}
}

// crashOnce reports whether the operator sent enough writes to crash.
func crashOnce(t rapid.TB, tr transition, after int32) bool {
	w := newWorld(t)
	defer w.close(t)
	crashed := cutOff(t, w, tr.happen(t, w), after)
	succeed(t, w, tr)
	return crashed
}

// cutOff runs an operator until it crashes after the given number of writes, or until it has nothing left to write.
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

// succeed runs a new operator until it has finished a transition, and judges the result.
func succeed(t rapid.TB, w *world, tr transition) {
	successor, err := newOperator(w)
	check(t, err)
	w.operators = []*operatorUnderTest{successor}
	w.run(t, successor)

	tr.judge(t, w)
}
