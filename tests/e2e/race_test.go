package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestReleaseRacingWithOtherWriters verifies that the scale stays while replicas are declared and released repeatedly, and other
// managers write the StatefulSet all the time. The operator's cache is then often stale. The resulting conflicts are not errors. Errors of other namespaces
// do not count: an MCPServer may outlive its namespace if another test changes the CRD while the namespace is deleted.
func TestReleaseRacingWithOtherWriters(t *testing.T) {
	testEnv.Test(t, feature("declared and released repeatedly").
		Assess("declared", all(apply(declared(3)), scaleIs(3))).
		Assess("the scale stays at 3, without an error", step(func(ctx context.Context, t *testing.T) {
			mark, err := operator.LogMark()
			must(t, err)
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
			failed, err := operator.ErrorsSince(mark, in(ctx))
			must(t, err)
			for _, message := range failed {
				t.Errorf("a pass ended in an error: %s", message)
			}
		})).
		Feature())
}
