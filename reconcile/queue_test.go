package reconcile

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TestANamespaceLeavesAWorkerToOthers verifies that no more than the maximum number of workers serve one namespace. A further worker serves other
// namespaces, even if the first namespace has a backlog.
func TestANamespaceLeavesAWorkerToOthers(t *testing.T) {
	q := newQueue(t, 3)
	for i := range 100 {
		q.Add(request("busy", i))
	}
	q.Add(request("other", 0))
	var got []string
	for range 4 {
		got = append(got, next(t, q).Namespace)
	}
	if want := []string{"busy", "busy", "busy", "other"}; !slices.Equal(got, want) {
		t.Errorf("the workers serve %v, want %v", got, want)
	}
	q.Done(request("other", 0))
	q.Add(request("other", 1))
	if got := next(t, q); got != request("other", 1) {
		t.Errorf("the free worker serves %s", got)
	}
}

// TestARequestThatWaitsHasItsTurn verifies that waiting requests are served in order. A request with a higher priority comes first, even if its
// priority was raised while it waited. No later request of the namespace comes before it.
func TestARequestThatWaitsHasItsTurn(t *testing.T) {
	q := newQueue(t, 1)
	q.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(handler.LowPriority)}, request("busy", 0), request("busy", 1), request("busy", 2), request("busy", 3))
	running := next(t, q)
	allWait(t, q, 3)
	q.Add(request("busy", 2))
	allWait(t, q, 3)
	var order []reconcile.Request
	for range 3 {
		q.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(handler.LowPriority)}, request("busy", 9))
		q.Done(running)
		running = next(t, q)
		order = append(order, running)
	}
	if want := []reconcile.Request{request("busy", 2), request("busy", 1), request("busy", 3)}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
}

// TestARequestWithAHigherPriorityTakesAReservedWorker verifies that a worker that is reserved for a request, for example for an initial pass after a
// restart, serves an edit that arrives in the meantime first.
func TestARequestWithAHigherPriorityTakesAReservedWorker(t *testing.T) {
	q := newQueue(t, 1)
	q.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(handler.LowPriority)}, request("busy", 0), request("busy", 1))
	running := next(t, q)
	allWait(t, q, 1)
	q.Done(running)
	q.Add(request("busy", 2))
	var order []reconcile.Request
	for range 2 {
		running = next(t, q)
		order = append(order, running)
		if len(order) == 1 {
			allWait(t, q, 1)
		}
		q.Done(running)
	}
	if want := []reconcile.Request{request("busy", 2), request("busy", 1)}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
}

// TestARequestThatWaitsKeepsItsFailures verifies that waiting does not count as a success. A success would reset the delay of a failing request.
func TestARequestThatWaitsKeepsItsFailures(t *testing.T) {
	q := newQueue(t, 1)
	q.Add(request("busy", 0))
	running := next(t, q)
	q.AddRateLimited(request("busy", 1))
	allWait(t, q, 1)
	if got := q.NumRequeues(request("busy", 1)); got != 1 {
		t.Errorf("the request has %d failures, want 1", got)
	}
	q.Done(running)
	if got := next(t, q); got != request("busy", 1) {
		t.Errorf("got %s", got)
	}
}

// TestNoRequestIsLost tests many workers, many namespaces, and requests that are added again while they are served.
func TestNoRequestIsLost(t *testing.T) {
	const workers, namespaces, requests, rounds = 8, 5, 40, 5
	q := newQueue(t, workers-1)
	var mutex sync.Mutex
	served, concurrent, most := map[reconcile.Request]int{}, map[string]int{}, 0
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for {
				r, shutdown := q.Get()
				if shutdown {
					return
				}
				mutex.Lock()
				served[r]++
				again := served[r] < rounds
				concurrent[r.Namespace]++
				most = max(most, concurrent[r.Namespace])
				mutex.Unlock()
				if again {
					q.Add(r)
				}
				mutex.Lock()
				concurrent[r.Namespace]--
				mutex.Unlock()
				q.Done(r)
			}
		})
	}
	for i := range requests {
		for n := range namespaces {
			q.Add(request(fmt.Sprint("team-", n), i))
		}
	}
	eventually(t, "each request is served in each round", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		for _, times := range served {
			if times < rounds {
				return false
			}
		}
		return len(served) == namespaces*requests
	})
	q.ShutDown()
	done.Wait()
	if most > workers-1 {
		t.Errorf("%d workers served one namespace at a time", most)
	}
	if len(q.namespaces) > 0 {
		t.Errorf("%d namespaces are still in memory", len(q.namespaces))
	}
}

func newQueue(t *testing.T, most int) *fairQueue {
	t.Helper()
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Nanosecond, time.Nanosecond)
	q := newFairQueue(most, logr.Discard())("test", limiter).(*fairQueue)
	t.Cleanup(func() {
		if !q.ShuttingDown() {
			q.ShutDown()
		}
	})
	return q
}

func request(namespace string, i int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint("server-", i)}}
}

// next returns the request that a free worker gets.
func next(t *testing.T, q *fairQueue) reconcile.Request {
	t.Helper()
	got := make(chan reconcile.Request, 1)
	go func() {
		if r, shutdown := q.Get(); !shutdown {
			got <- r
		}
	}()
	select {
	case r := <-got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no worker gets a request")
		return reconcile.Request{}
	}
}

// allWait lets a free worker process all requests, until the queue is empty and the given number of requests of namespace busy waits.
func allWait(t *testing.T, q *fairQueue, number int) {
	t.Helper()
	last := request("other", 0)
	areWaiting := func() bool {
		q.mutex.Lock()
		defer q.mutex.Unlock()
		of := q.namespaces["busy"]
		return of != nil && of.waiting.Len() == number && q.Len() == 0
	}
	add := func() { q.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(2 * handler.LowPriority)}, last) }
	add()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for r, shutdown := q.Get(); !shutdown; r, shutdown = q.Get() {
			q.Done(r)
			if areWaiting() {
				return
			}
			add()
		}
	}()
	eventually(t, "requests wait", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return is(), nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
