package faults

import (
	"context"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
)

// history contains the versions of the StatefulSets in a namespace, as a watch reported them. After an interruption of the watch, the history
// continues with the current versions.
type history struct {
	mutex    sync.Mutex
	versions []setVersion
	read     int
	last     map[string]int64
}

func watchHistory(ctx context.Context, namespace string) *history {
	h := &history{last: map[string]int64{}}
	informer := toolscache.NewSharedInformer(toolscache.NewListWatchFromClient(
		theCluster.Clients.AppsV1().RESTClient(), "statefulsets", namespace, fields.Everything()), &appsv1.StatefulSet{}, 0)
	_, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    h.record,
		UpdateFunc: func(_, object any) { h.record(object) },
	})
	if err != nil {
		panic(err) // only a stopped informer returns an error
	}
	go informer.RunWithContext(ctx)
	return h
}

func (h *history) record(object any) {
	set, ok := object.(*appsv1.StatefulSet)
	if !ok {
		return
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.versions = append(h.versions, versionOf(set, "watch"))
	h.last[set.Name] = version(set)
}

// next returns the versions since the last call of next.
func (h *history) next() []setVersion {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	next := h.versions[h.read:]
	h.read = len(h.versions)
	return next
}

// newest returns the newest resourceVersion of a StatefulSet.
func (h *history) newest(name string) int64 {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.last[name]
}
