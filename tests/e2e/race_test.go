package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestReleaseRacingWithOtherWriters verifies that the scale stays while replicas are declared and released repeatedly, and other
// managers write the StatefulSet all the time. The operator's cache is then often stale. The resulting conflicts are not errors.
func TestReleaseRacingWithOtherWriters(t *testing.T) {
	testEnv.Test(t, feature("declared and released repeatedly").
		Assess("declared", all(apply(declared(3)), scaleIs(3))).
		Assess("the scale stays at 3, without an error", step(func(ctx context.Context, t *testing.T) {
			before := reconcileErrors(ctx, t)
			holds(3, step(func(ctx context.Context, t *testing.T) {
				writers, stop := context.WithCancel(ctx)
				var running sync.WaitGroup
				for writer := range 2 {
					running.Go(func() {
						for i := 0; writers.Err() == nil; i++ {
							_, _ = theCluster.Kubectl(writers, "-n", in(ctx), "label", "statefulset", server, "--overwrite",
								fmt.Sprintf("writer-%d=%d", writer, i)) // the last command may be interrupted
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
				t.Errorf("the operator's error count was %v and is %v", before, after)
			}
		})).
		Feature())
}

// reconcileErrors returns the number of passes that ended in an error.
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
