package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
)

// witness records the changes of a scale, and the MCPServers whose pods are created or deleted.
type witness struct {
	*cluster.Witness // its lock is that of the fields

	scales    map[string]int32 // of each StatefulSet
	pods      map[string]types.UID
	moved     []string        // changes of a scale
	restarted map[string]bool // the StatefulSets with a pod that was created or deleted
}

// watchFleet starts to watch.
func watchFleet(t *testing.T, namespace string) *witness {
	t.Helper()
	w := &witness{scales: map[string]int32{}, pods: map[string]types.UID{}, restarted: map[string]bool{}}
	w.Witness = theCluster.WatchPods(t, namespace, w.began, w.see)
	return w
}

func (w *witness) began(object client.Object) {
	switch object := object.(type) {
	case *appsv1.StatefulSet:
		w.scales[object.Name] = *object.Spec.Replicas
	case *corev1.Pod:
		w.pods[object.Name] = object.UID
	}
}

func (w *witness) see(what watch.EventType, object client.Object) {
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

// onlyRestarted waits until pods of each of the given MCPServers have been created or deleted since the last call. It fails if pods of any
// other MCPServer have, or if a scale has changed at any time.
func (w *witness) onlyRestarted(t *testing.T, when string, names ...string) {
	t.Helper()
	slices.Sort(names)
	eventually(t, "pods of these MCPServers to restart", func() (string, bool) {
		w.Lock()
		defer w.Unlock()
		return fmt.Sprint(slices.Sorted(maps.Keys(w.restarted))), !slices.ContainsFunc(names, func(name string) bool { return !w.restarted[name] })
	})
	w.CatchUp(t)
	w.Lock()
	defer w.Unlock()
	if len(w.moved) > 0 {
		t.Fatalf("%s, these scales must not have moved:\n%q", when, w.moved)
	}
	if restarted := slices.Sorted(maps.Keys(w.restarted)); !slices.Equal(restarted, names) {
		t.Fatalf("%s, pods of these MCPServers restarted: %q, want %q", when, restarted, names)
	}
	clear(w.restarted)
}
