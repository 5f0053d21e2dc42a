package reconcile

import (
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// fieldFights counts how often a field of a child other than the scale was put back against the same field manager, by
// the same rules. It is kept in memory: an operator that restarts begins to count anew, and backs off soon after.
type fieldFights struct {
	mutex   sync.Mutex
	byChild map[types.UID]*v1alpha1.ScaleTakeBacks
}

// next returns when a child may be put back against who has changed it; the zero time means now.
func (f *fieldFights) next(child client.Object, taken []takeover, now metav1.Time) time.Time {
	if len(taken) == 0 {
		return time.Time{}
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return nextTakeBack(f.byChild[child.GetUID()], taken[0].manager, now.Time)
}

// count counts that a child was put back.
func (f *fieldFights) count(child client.Object, taken []takeover, now metav1.Time) {
	if len(taken) == 0 {
		return
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.byChild == nil {
		f.byChild = map[types.UID]*v1alpha1.ScaleTakeBacks{}
	}
	for uid, takeBacks := range f.byChild {
		if !stillCounts(takeBacks, now.Time) {
			delete(f.byChild, uid)
		}
	}
	f.byChild[child.GetUID()] = countTakeBack(f.byChild[child.GetUID()], taken[0].manager, now)
}

// backsOff reports whether to leave a child as it is until a time, and remembers why. A change of the MCPServer or of
// the scale does not wait.
func (p *pass) backsOff(until time.Time, child client.Object, taken []takeover) bool {
	_, isStatefulSet := child.(*appsv1.StatefulSet)
	if until.IsZero() || p.server.Status.ObservedGeneration != p.server.Generation || (isStatefulSet && p.verdict.writesScale()) {
		return false
	}
	does, wayOut := "changes", fmt.Sprintf("Stop %s from writing it, or declare its value in the MCPServer", taken[0].manager)
	if taken[0].removed {
		does, wayOut = "removes", "Stop whoever it is from removing it"
	}
	p.fights = append(p.fights, fmt.Sprintf("%s %s %s of %q each time it is put back; putting it back less and less "+
		"often, at most every %s. %s",
		taken[0].manager, does, strings.Join(taken[0].fields, ", "), child.GetName(), fightMostDelay, wayOut))
	if p.retryAt.IsZero() || until.Before(p.retryAt) {
		p.retryAt = until
	}
	return true
}
