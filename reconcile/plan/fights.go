package plan

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// Fights counts how often fields of a child other than the scale were put back, by the rules of the scale.
type Fights struct {
	mutex   sync.Mutex
	byChild map[types.UID]*v1alpha1.ScaleTakeBacks
}

// next returns when a child may be put back; the zero time means now.
func (f *Fights) next(child client.Object, now time.Time) time.Time {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return scale.NextTakeBack(f.byChild[child.GetUID()], now)
}

// count counts that changes of others in a child were undone.
func (f *Fights) count(child client.Object, undone []Change, now metav1.Time) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.byChild == nil {
		f.byChild = map[types.UID]*v1alpha1.ScaleTakeBacks{}
	}
	for uid, takeBacks := range f.byChild {
		if !scale.StillCounts(takeBacks, now.Time) {
			delete(f.byChild, uid)
		}
	}
	f.byChild[child.GetUID()] = scale.CountTakeBack(f.byChild[child.GetUID()], undone[0].Manager, now)
}

// backsOff returns until when a step leaves a child as it is, because of a fight; the zero time means that it does not. A change of the
// MCPServer or of the scale does not wait.
func (m *maker) backsOff(step Step) time.Time {
	if len(step.Undoes) == 0 || m.Server.Status.ObservedGeneration != m.Server.Generation {
		return time.Time{}
	}
	if step.Kind == observe.KindStatefulSet && m.verdict.Writes() {
		return time.Time{}
	}
	return m.memory.Fights.next(step.Live, m.Now.Time)
}
