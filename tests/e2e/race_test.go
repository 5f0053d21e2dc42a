package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestReleaseRacingWithOtherWriters: while others write the StatefulSet all the time, so that the operator's cache is
// behind more often than not, declaring and removing the declaration never shows another scale. The conflicts on the way
// are no errors.
func TestReleaseRacingWithOtherWriters(t *testing.T) {
	testEnv.Test(t, feature("declared and released again and again").
		Assess("declared", all(apply(declared(3)), scaleIs(3))).
		Assess("stays at 3 throughout, without an error", step(func(ctx context.Context, t *testing.T) {
			before := reconcileErrors(ctx, t)
			holds(3, step(func(ctx context.Context, t *testing.T) {
				writers, stop := context.WithCancel(ctx)
				var running sync.WaitGroup
				for writer := range 2 {
					running.Go(func() {
						for i := 0; writers.Err() == nil; i++ {
							_, _ = theCluster.Kubectl(writers, "-n", in(ctx), "label", "statefulset", server, "--overwrite",
								fmt.Sprintf("writer-%d=%d", writer, i)) // stopped in the middle at the end
						}
					})
				}
				for range 5 {
					all(apply(undeclared), passesAreForced(1), apply(declared(3)), passesAreForced(1))(ctx, t, nil)
				}
				stop()
				running.Wait()
				scaleIs(3)(ctx, t, nil)
			}))(ctx, t, nil)
			if after := reconcileErrors(ctx, t); after != before {
				t.Errorf("the errors of the operator went from %v to %v", before, after)
			}
		})).
		Feature())
}

// reconcileErrors returns how many passes of the operator have ended in an error.
func reconcileErrors(ctx context.Context, t *testing.T) float64 {
	t.Helper()
	families, err := operator.Metrics(ctx)
	must(t, err)
	var errors float64
	for _, metric := range families["controller_runtime_reconcile_errors_total"].GetMetric() {
		errors += metric.GetCounter().GetValue()
	}
	return errors
}
