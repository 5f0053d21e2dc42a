package storm

import (
	"testing"

	"mcpserver-operator/tests/cluster"
)

// TestEveryStaleCache verifies that a stale cache never changes the scale. After each transition, a new operator runs two passes for each pair
// of a version of the MCPServer and a version of the StatefulSet, from the first to the last.
func TestEveryStaleCache(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			w := newWorld(t)
			defer w.close(t)
			w.run(t, tr.happen(t, w))
			tr.judge(t, w)

			servers, sets := w.servers.length(), w.sets.length()
			for server := range servers {
				for set := -1; set < sets; set++ { // -1: the cache has no StatefulSet yet
					stale, err := newOperator(w)
					check(t, err)
					for range 2 { // the second pass has the same cache, and reports
						_, err = stale.pass(w.ctx, w, w.servers.length()-1-server, w.sets.length()-1-set)
						checkPass(t, err)
					}
					w.judge(t)
					if t.Failed() {
						t.Fatalf("with version %d of the MCPServer and version %d of the StatefulSet", server, set)
					}
				}
			}
			// The stale passes must not have removed the record of the declaration either.
			successor, err := newOperator(w)
			check(t, err)
			w.run(t, successor)
			w.judge(t)
			t.Logf("%d versions of the MCPServer, %d of the StatefulSet", servers, sets)
		})
	}
}

// TestEveryOldStatefulSet verifies that a stale StatefulSet does not prevent a transition. The operator sees the last change of the MCPServer at
// once, but an older version of the StatefulSet. The test does this for each older version.
func TestEveryOldStatefulSet(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			for lag, older := 1, true; older; lag++ {
				older = actOnOldStatefulSet(t, tr, lag)
				if t.Failed() {
					t.Fatalf("with a StatefulSet that was %d versions old", lag)
				}
			}
		})
	}
}

// actOnOldStatefulSet reports whether even older versions of the StatefulSet exist.
func actOnOldStatefulSet(t *testing.T, tr transition, lag int) (older bool) {
	w := newWorld(t)
	defer w.close(t)
	tr.happen(t, w)
	versions := w.sets.length()
	stale, err := newOperator(w)
	check(t, err)
	for range 2 {
		_, err = stale.pass(w.ctx, w, 0, lag)
		checkPass(t, err)
	}
	succeed(t, w, tr)
	return lag < versions
}

// TestACreationIsNotRepeated verifies that the operator creates a StatefulSet only once while the cache does not show it yet. It must not even
// send a request that the API server would refuse.
func TestACreationIsNotRepeated(t *testing.T) {
	theCluster.NeedAuditLog(t)
	mark, err := theCluster.AuditMark()
	check(t, err)
	w := newWorld(t)
	defer w.close(t)
	o := transitions[0].happen(t, w)
	const never = 1000 // events; the cache never shows the StatefulSet in this test
	for range 3 {
		_, err := o.pass(w.ctx, w, 0, never)
		checkPass(t, err)
	}
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	check(t, err)
	var writes []string
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == w.key.Namespace && request.Resource == "statefulsets" {
			writes = append(writes, request.String())
		}
	}
	if len(writes) != 1 {
		t.Errorf("writes of the StatefulSet: %q, wanted exactly one", writes)
	}
}
