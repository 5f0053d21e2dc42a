package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Witness watches the StatefulSets and the pods of a namespace until a test ends, so that it also sees what lasts only for an instant.
type Witness struct {
	cluster   *Cluster
	namespace string
	see       func(watch.EventType, client.Object)

	// Mutex is held while the function see runs.
	sync.Mutex
	versions map[string]string // the newest resourceVersion of each object that exists, by its name
	err      error             // of a watch
}

// WatchPods starts to watch. It calls began for each object that exists at the beginning, and see for each later event, one at a time.
func (c *Cluster) WatchPods(t testing.TB, namespace string, began func(client.Object), see func(watch.EventType, client.Object)) *Witness {
	t.Helper()
	w := &Witness{cluster: c, namespace: namespace, see: see, versions: map[string]string{}}
	lists := w.lists(t)
	for _, list := range lists {
		each(t, list, func(object client.Object) {
			w.versions[NameOf(object)] = object.GetResourceVersion()
			began(object)
		})
	}
	var done sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		done.Wait()
	})
	for _, list := range lists {
		events, err := c.Client.Watch(ctx, list, &client.ListOptions{
			Namespace: namespace, Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()},
		})
		Must(t, err)
		done.Go(func() { w.record(ctx, events) })
	}
	return w
}

// NameOf returns the kind and the name of an object of a Witness.
func NameOf(object client.Object) string { return fmt.Sprintf("%T %s", object, object.GetName()) }

func (w *Witness) lists(t testing.TB) []client.ObjectList {
	t.Helper()
	lists := []client.ObjectList{&appsv1.StatefulSetList{}, &corev1.PodList{}}
	for _, list := range lists {
		Must(t, w.cluster.Client.List(t.Context(), list, client.InNamespace(w.namespace)))
	}
	return lists
}

func each(t testing.TB, list client.ObjectList, do func(client.Object)) {
	t.Helper()
	Must(t, apimeta.EachListItem(list, func(item runtime.Object) error {
		do(item.(client.Object))
		return nil
	}))
}

func (w *Witness) record(ctx context.Context, events watch.Interface) {
	defer events.Stop()
	for event := range events.ResultChan() {
		w.take(event)
	}
	w.Lock()
	defer w.Unlock()
	if ctx.Err() == nil && w.err == nil {
		w.err = fmt.Errorf("the watch of %s ended", w.namespace)
	}
}

func (w *Witness) take(event watch.Event) {
	w.Lock()
	defer w.Unlock()
	object, isObject := event.Object.(client.Object)
	switch {
	case !isObject:
		w.err = fmt.Errorf("watching %s: %w", w.namespace, apierrors.FromObject(event.Object))
		return
	case event.Type == watch.Deleted:
		delete(w.versions, NameOf(object))
	default:
		w.versions[NameOf(object)] = object.GetResourceVersion()
	}
	w.see(event.Type, object)
}

// CatchUp waits until the function see has been called for everything that has happened. It fails the test if a watch has failed.
func (w *Witness) CatchUp(t testing.TB) {
	t.Helper()
	MustEventually(t, "the watch to be up to date", func() (string, bool) {
		now := map[string]string{}
		for _, list := range w.lists(t) {
			each(t, list, func(object client.Object) { now[NameOf(object)] = object.GetResourceVersion() })
		}
		w.Lock()
		defer w.Unlock()
		Must(t, w.err)
		return fmt.Sprintf("%d objects, %d seen", len(now), len(w.versions)), maps.Equal(now, w.versions)
	})
}
