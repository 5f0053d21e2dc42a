package storm

import (
	"testing"

	"mcpserver-operator/tests/cluster"
)

// TestEveryStaleCache: after each transition an operator makes a pass for every pair of versions that its cache could
// show of the MCPServer and of the StatefulSet, from the first to the last. Whatever it shows, the scale stays.
func TestEveryStaleCache(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			w := newWorld(t)
			defer w.close(t)
			w.run(t, tr.happen(t, w))
			tr.judge(t, w)

			servers, sets := w.servers.length(), w.sets.length()
			for server := range servers {
				for set := -1; set < sets; set++ { // before the first there was none
					stale, err := newOperator(w)
					check(t, err)
					for range 2 { // the second sees the same, and reports
						_, err = stale.pass(w.ctx, w, w.servers.length()-1-server, w.sets.length()-1-set)
						checkPass(t, err)
					}
					w.judge(t)
					if t.Failed() {
						t.Fatalf("with version %d of the MCPServer and version %d of the StatefulSet", server, set)
					}
				}
			}
			// Nor has any of them made the operator forget what was carried out.
			successor, err := newOperator(w)
			check(t, err)
			w.run(t, successor)
			w.judge(t)
			t.Logf("%d versions of the MCPServer, %d of the StatefulSet", servers, sets)
		})
	}
}

// TestEveryOldStatefulSet: the operator sees the last change of a transition at once, and of the StatefulSet every version
// that there was before. Nothing of what it does or reports then keeps the transition from its end.
func TestEveryOldStatefulSet(t *testing.T) {
	for _, tr := range transitions {
		t.Run(tr.name, func(t *testing.T) {
			for lag, older := 1, true; older; lag++ {
				older = actOnOldStatefulSet(t, tr, lag)
				if t.Failed() {
					t.Fatalf("on a StatefulSet from %d versions before", lag)
				}
			}
		})
	}
}

// actOnOldStatefulSet reports whether there were still older versions of the StatefulSet.
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

// TestACreationIsNotRepeated: a pass that follows a creation before the cache does sends no second one, not even one that the
// API server refuses.
func TestACreationIsNotRepeated(t *testing.T) {
	theCluster.NeedAuditLog(t)
	mark, err := theCluster.AuditMark()
	check(t, err)
	w := newWorld(t)
	defer w.close(t)
	o := transitions[0].happen(t, w)
	const never = 1000 // events: the cache shows no StatefulSet in all that follows
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
		t.Errorf("writes of the StatefulSet: %q, wanted one", writes)
	}
}
