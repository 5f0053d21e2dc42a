package storm

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
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

// crashOnce reports whether the operator sent so many writes that it crashed.
func crashOnce(t rapid.TB, tr transition, after int32) bool {
	w := newWorld(t)
	defer w.close(t)
	o := tr.happen(t, w)

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
