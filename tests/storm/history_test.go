package storm

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// object is a pointer to a typed object.
type object interface {
	client.Object
	comparable
}

// history contains every version of one object, as a watch reported them. A nil version means that the object did not exist.
type history[O object] struct {
	key   client.ObjectKey
	empty O
	watch watch.Interface
	done  chan struct{}

	mutex    sync.Mutex
	versions []O
	version  string // the newest resourceVersion; empty if the object does not exist
}

func newHistory[O object](ctx context.Context, key client.ObjectKey, empty O, list client.ObjectList) (*history[O], error) {
	w, err := theCluster.Client.Watch(ctx, list, &client.ListOptions{
		Namespace: key.Namespace, FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, key.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("watching %T %s: %w", empty, key, err)
	}
	h := &history[O]{key: key, empty: empty, watch: w, done: make(chan struct{})}
	go h.record()
	return h, nil
}

func (h *history[O]) record() {
	defer close(h.done)
	for event := range h.watch.ResultChan() {
		object, ok := event.Object.(O)
		if !ok {
			continue
		}
		h.mutex.Lock()
		if event.Type == watch.Deleted {
			var gone O
			h.versions, h.version = append(h.versions, gone), ""
		} else {
			h.versions, h.version = append(h.versions, object), object.GetResourceVersion()
		}
		h.mutex.Unlock()
	}
}

func (h *history[O]) stop() {
	h.watch.Stop()
	<-h.done
}

// sync waits until the history contains the current version.
func (h *history[O]) sync(ctx context.Context) error {
	return wait.PollUntilContextTimeout(ctx, 2*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		live, ok := h.empty.DeepCopyObject().(O)
		if !ok {
			return false, fmt.Errorf("a copy of %T has another type", h.empty)
		}
		err := theCluster.Client.Get(ctx, h.key, live)
		if client.IgnoreNotFound(err) != nil {
			return false, err
		}
		h.mutex.Lock()
		defer h.mutex.Unlock()
		if apierrors.IsNotFound(err) {
			return h.version == "", nil
		}
		return h.version == live.GetResourceVersion(), nil
	})
}

// length returns the number of versions.
func (h *history[O]) length() int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return len(h.versions)
}

// since returns the versions from the given index on.
func (h *history[O]) since(index int) []O {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return append([]O(nil), h.versions[index:]...)
}

// at returns the version in a cache that is lag events behind. A cache never goes back: the version is not older than the last shown version.
// Found is false if the object does not exist in the cache.
func (h *history[O]) at(shown *int, lag int) (version O, found bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	*shown = max(*shown, len(h.versions)-1-lag)
	var gone O
	if *shown < 0 {
		return gone, false
	}
	return h.versions[*shown], h.versions[*shown] != gone
}
