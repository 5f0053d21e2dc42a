package storm

import (
	"slices"
	"testing"
)

// TestEventsOfEachTransition verifies that the operator emits one event for each change, and none for a pass without a change.
func TestEventsOfEachTransition(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			w := newWorld(t)
			defer w.close(t)
			o := tr.happen(t, w)
			w.run(t, o)
			for range 5 {
				_, err := o.pass(w.ctx, w, 0, 0)
				checkPass(t, err)
			}
			if !slices.Equal(o.events, tr.events) {
				t.Errorf("the events are %v, wanted %v", o.events, tr.events)
			}
		})
	}
}
