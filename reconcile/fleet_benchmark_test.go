package reconcile

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/reconcile/observe"
)

// BenchmarkFleet measures what one operator needs for many MCPServers that are Ready, without an API server: the memory of its own cache for each
// MCPServer with its children and its pod, what it remembers after a pass over an MCPServer, the first pass, as after a start, and a later pass,
// which is the result. No pass may write. What an MCPServer costs should not depend on how many there are.
func BenchmarkFleet(b *testing.B) {
	logf.SetLogger(logr.Discard())
	for _, n := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkFleet(b, n) })
	}
}

func benchmarkFleet(b *testing.B, n int) {
	b.Helper()
	const passed = 1_000 // the number of MCPServers that get passes, spread over all
	empty := liveHeap()
	mgr := managerOf(b, readyServer(b), n, nil)
	fill(b, mgr)
	reconciler := &Reconciler{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: &events.FakeRecorder{}, Settings: fleetSettings, Now: time.Now,
	}
	pass := func(i int) {
		request := reconcile.Request{NamespacedName: client.ObjectKey{Namespace: fleetNamespace, Name: fleetName(i % passed * (n / passed))}}
		result, err := reconciler.Reconcile(b.Context(), request)
		if err != nil || result.RequeueAfter != 0 {
			b.Fatalf("a pass over %s is not the last: %+v, %v", request, result, err)
		}
	}
	filled := liveHeap()
	start := time.Now()
	for i := range passed {
		pass(i)
	}
	first := time.Since(start)
	remembered := int64(liveHeap()) - int64(filled)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		pass(i)
	}
	b.ReportMetric(float64(first.Nanoseconds())/passed, "ns/first-pass")
	b.ReportMetric(float64(filled-empty)/float64(n), "cache-B/MCPServer")
	b.ReportMetric(float64(remembered)/passed, "memory-B/MCPServer")
}

func liveHeap() uint64 {
	goruntime.GC()
	var stats goruntime.MemStats
	goruntime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// fill starts the cache of a manager with the indexes of the operator, and waits until it is full.
func fill(b *testing.B, mgr ctrl.Manager) {
	b.Helper()
	if err := errors.Join(observe.IndexAutoscalers(b.Context(), mgr), observe.IndexPods(b.Context(), mgr)); err != nil {
		b.Fatal(err)
	}
	for kind := range observe.CachedObjects() {
		if _, err := mgr.GetCache().GetInformer(b.Context(), kind, cache.BlockUntilSynced(false)); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.GetCache().Start(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		b.Fatal("the cache did not fill")
	}
}
