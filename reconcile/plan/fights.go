package plan

import (
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// Fights counts how often the operator restored fields of a child other than the scale. The rules are those of the scale.
type Fights struct {
	mutex   sync.Mutex
	byChild map[types.UID]fight
}

// fight is the count of a child. Each generation of the MCPServer has a new count, so that an edit is not delayed, even if the first attempt to
// apply it fails.
type fight struct {
	*v1beta1.ScaleTakeBacks
	generation int64
}

// next returns when the operator may restore a child of an MCPServer again, and the other writers of the fight; the zero time means now.
func (f *Fights) next(server *v1beta1.MCPServer, child client.Object, now time.Time) (until time.Time, writers []string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	last := f.byChild[child.GetUID()]
	if last.ScaleTakeBacks == nil || last.generation != server.Generation {
		return time.Time{}, nil
	}
	return scale.NextTakeBack(last.ScaleTakeBacks, now), scale.Writers(last.ScaleTakeBacks)
}

// count counts one more reverted change of a child.
func (f *Fights) count(server *v1beta1.MCPServer, child client.Object, undone []Change, now metav1.Time) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.byChild == nil {
		f.byChild = map[types.UID]fight{}
	}
	for uid, other := range f.byChild {
		if !scale.StillCounts(other.ScaleTakeBacks, now.Time) {
			delete(f.byChild, uid)
		}
	}
	last := f.byChild[child.GetUID()]
	if last.generation != server.Generation {
		last.ScaleTakeBacks = nil
	}
	manager := strings.ReplaceAll(undone[0].Manager, ",", "_") // a comma separates writers
	f.byChild[child.GetUID()] = fight{
		ScaleTakeBacks: scale.CountTakeBack(last.ScaleTakeBacks, manager, now), generation: server.Generation,
	}
}

// backOff returns the step that leaves a child unchanged because of a fight. It reports false if there is no fight. A fight does not delay a
// change of the MCPServer or of the scale.
func (m *maker) backOff(step Step, reason string) (Step, bool) {
	if len(step.Undoes) == 0 || (step.Kind == observe.KindStatefulSet && m.verdict.Writes()) {
		return step, false
	}
	until, writers := m.memory.Fights.next(m.Server, step.Live, m.Now.Time)
	if until.IsZero() {
		return step, false
	}
	step.Action, step.Until, step.Writers, step.Reason = BackOff, until, writers, reason
	return step, true
}
