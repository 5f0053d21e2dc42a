package chart

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// witness watches the StatefulSets and the pods of a namespace. It records every change that must not happen: a change of a StatefulSet's
// spec, and the creation or deletion of a StatefulSet or a pod.
type witness struct {
	namespace string
	done      sync.WaitGroup

	mutex    sync.Mutex
	began    map[string]state
	versions map[string]string // the newest resourceVersion that the watch has returned
	moved    []string
	ended    bool
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

func nameOf(object client.Object) string { return fmt.Sprintf("%T %s", object, object.GetName()) }

// watchPods starts to watch.
func watchPods(t *testing.T, namespace string) *witness {
	t.Helper()
	w := &witness{namespace: namespace, began: map[string]state{}, versions: map[string]string{}}
	var watches []watch.Interface
	for _, list := range w.lists(t) {
		for _, object := range objectsOf(t, list) {
			w.began[nameOf(object)], w.versions[nameOf(object)] = stateOf(object), object.GetResourceVersion()
		}
		events, err := theCluster.Client.Watch(context.Background(), list, &client.ListOptions{
			Namespace: namespace, Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()},
		})
		must(t, err)
		watches = append(watches, events)
		w.done.Go(func() { w.watch(events) })
	}
	t.Cleanup(func() {
		w.mutex.Lock()
		w.ended = true
		w.mutex.Unlock()
		for _, events := range watches {
			events.Stop()
		}
		w.done.Wait()
	})
	return w
}

// lists reads the StatefulSets and the pods.
func (w *witness) lists(t *testing.T) []client.ObjectList {
	t.Helper()
	lists := []client.ObjectList{&appsv1.StatefulSetList{}, &corev1.PodList{}}
	for _, list := range lists {
		must(t, theCluster.Client.List(t.Context(), list, client.InNamespace(w.namespace)))
	}
	return lists
}

func objectsOf(t *testing.T, list client.ObjectList) []client.Object {
	t.Helper()
	var objects []client.Object
	must(t, apimeta.EachListItem(list, func(item runtime.Object) error {
		objects = append(objects, item.(client.Object))
		return nil
	}))
	return objects
}

func (w *witness) watch(events watch.Interface) {
	for event := range events.ResultChan() {
		w.mutex.Lock()
		w.see(event)
		w.mutex.Unlock()
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if !w.ended {
		w.moved = append(w.moved, "unknown: the watch ended")
	}
}

func (w *witness) see(event watch.Event) {
	object, isObject := event.Object.(client.Object)
	if !isObject {
		w.moved = append(w.moved, fmt.Sprintf("nobody knows: %v", apierrors.FromObject(event.Object)))
		return
	}
	name, now := nameOf(object), stateOf(object)
	w.versions[name] = object.GetResourceVersion()
	switch before, known := w.began[name]; {
	case !known:
		w.moved = append(w.moved, name+" is new")
	case event.Type == watch.Deleted:
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
	var missing []string
	eventually(t, "the watch to be up to date", func() (string, bool) {
		there := map[string]bool{}
		var unseen []string
		for _, list := range w.lists(t) {
			for _, object := range objectsOf(t, list) {
				there[nameOf(object)] = true
				w.mutex.Lock()
				if w.versions[nameOf(object)] != object.GetResourceVersion() {
					unseen = append(unseen, nameOf(object))
				}
				w.mutex.Unlock()
			}
		}
		missing = nil
		for name := range w.began {
			if !there[name] {
				missing = append(missing, name+" is gone")
			}
		}
		return fmt.Sprint(unseen), len(unseen) == 0
	})
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if moved := slices.Concat(w.moved, missing); len(moved) > 0 {
		t.Fatalf("%s, these changes must not have happened:\n%q", until, moved)
	}
}
