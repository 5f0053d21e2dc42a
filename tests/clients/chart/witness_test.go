package chart

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
)

// witness records every change that must not happen: a change of a StatefulSet's spec, and the creation or deletion of a StatefulSet or a
// pod.
type witness struct {
	*cluster.Witness // its lock is that of the fields

	states map[string]state // at the beginning
	moved  []string
}

// state must not change. The generation counts the changes of a StatefulSet's spec, including its scale.
type state struct {
	uid        types.UID
	generation int64
	replicas   int32
}

func stateOf(object client.Object) state {
	s := state{uid: object.GetUID()}
	if set, isSet := object.(*appsv1.StatefulSet); isSet {
		s.generation, s.replicas = set.Generation, *set.Spec.Replicas
	}
	return s
}

// watchPods starts to watch.
func watchPods(t *testing.T, namespace string) *witness {
	t.Helper()
	w := &witness{states: map[string]state{}}
	w.Witness = theCluster.WatchPods(t, namespace, w.began, w.see)
	return w
}

func (w *witness) began(object client.Object) { w.states[cluster.NameOf(object)] = stateOf(object) }

func (w *witness) see(what watch.EventType, object client.Object) {
	name, now := cluster.NameOf(object), stateOf(object)
	switch before, known := w.states[name]; {
	case !known:
		w.moved = append(w.moved, name+" is new")
	case what == watch.Deleted:
		w.moved = append(w.moved, name+" was deleted")
	case object.GetDeletionTimestamp() != nil:
		w.moved = append(w.moved, name+" is being deleted")
	case now != before:
		w.moved = append(w.moved, fmt.Sprintf("%s was %+v and is %+v", name, before, now))
	}
}

// nothingMoved fails if a change that must not happen has been recorded.
func (w *witness) nothingMoved(t *testing.T, until string) {
	t.Helper()
	w.CatchUp(t)
	w.Lock()
	defer w.Unlock()
	if len(w.moved) > 0 {
		t.Fatalf("%s, these changes must not have happened:\n%q", until, w.moved)
	}
}
