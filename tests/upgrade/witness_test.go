package upgrade

import (
	"context"
	"fmt"
	"maps"
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

// witness watches the StatefulSets and the pods of a namespace, so that it also sees a scale that lasts only for an instant.
type witness struct {
	namespace string

	mutex     sync.Mutex
	versions  map[string]string // the newest resourceVersion of each object that exists
	scales    map[string]int32  // of each StatefulSet
	pods      map[string]types.UID
	moved     []string        // changes of a scale, and failures of the watch
	restarted map[string]bool // the StatefulSets with a pod that was created or deleted
	ended     bool
}

// watchFleet starts to watch.
func watchFleet(t *testing.T, namespace string) *witness {
	t.Helper()
	w := &witness{
		namespace: namespace, versions: map[string]string{}, scales: map[string]int32{}, pods: map[string]types.UID{}, restarted: map[string]bool{},
	}
	var done sync.WaitGroup
	var watches []watch.Interface
	for _, list := range w.lists(t) {
		for _, object := range objectsOf(t, list) {
			w.see(watch.Added, object)
		}
		events, err := theCluster.Client.Watch(context.Background(), list, &client.ListOptions{
			Namespace: namespace, Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()},
		})
		must(t, err)
		watches = append(watches, events)
		done.Go(func() { w.record(events) })
	}
	clear(w.restarted) // the pods that were there at the beginning
	t.Cleanup(func() {
		w.mutex.Lock()
		w.ended = true
		w.mutex.Unlock()
		for _, events := range watches {
			events.Stop()
		}
		done.Wait()
	})
	return w
}

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

func (w *witness) record(events watch.Interface) {
	for event := range events.ResultChan() {
		w.mutex.Lock()
		if object, isObject := event.Object.(client.Object); isObject {
			w.see(event.Type, object)
		} else {
			w.moved = append(w.moved, fmt.Sprintf("unknown: %v", apierrors.FromObject(event.Object)))
		}
		w.mutex.Unlock()
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if !w.ended {
		w.moved = append(w.moved, "unknown: the watch ended")
	}
}

func (w *witness) see(what watch.EventType, object client.Object) {
	key := fmt.Sprintf("%T %s", object, object.GetName())
	w.versions[key] = object.GetResourceVersion()
	if what == watch.Deleted {
		delete(w.versions, key)
	}
	switch object := object.(type) {
	case *appsv1.StatefulSet:
		before, known := w.scales[object.Name]
		if (known && before != *object.Spec.Replicas) || what == watch.Deleted {
			w.moved = append(w.moved, fmt.Sprintf("%s of %s: scale %d, before %d", what, object.Name, *object.Spec.Replicas, before))
		}
		w.scales[object.Name] = *object.Spec.Replicas
	case *corev1.Pod:
		if controller := metav1.GetControllerOf(object); controller != nil && (w.pods[object.Name] != object.UID || what == watch.Deleted) {
			w.restarted[controller.Name] = true
		}
		w.pods[object.Name] = object.UID
	}
}

// catchUp waits until the watch has returned everything that has happened.
func (w *witness) catchUp(t *testing.T) {
	t.Helper()
	eventually(t, "the watch to be up to date", func() (string, bool) {
		now := map[string]string{}
		for _, list := range w.lists(t) {
			for _, object := range objectsOf(t, list) {
				now[fmt.Sprintf("%T %s", object, object.GetName())] = object.GetResourceVersion()
			}
		}
		w.mutex.Lock()
		defer w.mutex.Unlock()
		return fmt.Sprintf("%d objects, %d seen", len(now), len(w.versions)), maps.Equal(now, w.versions)
	})
}

// onlyRestarted waits until pods of each of the given MCPServers have been created or deleted since the last call. It fails if pods of any
// other MCPServer have, or if a scale has changed at any time.
func (w *witness) onlyRestarted(t *testing.T, when string, names ...string) {
	t.Helper()
	slices.Sort(names)
	eventually(t, "pods of these MCPServers to restart", func() (string, bool) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		return fmt.Sprint(slices.Sorted(maps.Keys(w.restarted))), !slices.ContainsFunc(names, func(name string) bool { return !w.restarted[name] })
	})
	w.catchUp(t)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if len(w.moved) > 0 {
		t.Fatalf("%s, these scales must not have moved:\n%q", when, w.moved)
	}
	if restarted := slices.Sorted(maps.Keys(w.restarted)); !slices.Equal(restarted, names) {
		t.Fatalf("%s, pods of these MCPServers restarted: %q, want %q", when, restarted, names)
	}
	clear(w.restarted)
}
