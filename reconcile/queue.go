package reconcile

import (
	"cmp"
	"container/heap"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// fairQueue is a priority queue in which one namespace cannot occupy all workers: if the maximum number of workers serves a namespace, further
// requests of this namespace wait. Otherwise a tenant that repeatedly edits a large MCPServer, or whose writes hang in an admission webhook, could
// occupy all workers.
//
// A waiting request is not in the embedded queue. If it is added again while it waits, it is in both, and then waits with the higher of the
// two priorities.
type fairQueue struct {
	priorityqueue.PriorityQueue[reconcile.Request]
	// most is the maximum number of workers that serve one namespace at the same time.
	most int

	mutex      sync.Mutex
	namespaces map[string]*namespaceQueue
	added      uint64
}

// namespaceQueue is the state of one namespace.
type namespaceQueue struct {
	// running is the number of workers that serve the namespace or are reserved for it: see next.
	running int
	// next are the requests with a reserved worker, and their priorities. They are in the embedded queue again.
	next map[reconcile.Request]int
	// waiting are the requests without a worker.
	waiting waitingRequests
}

// newFairQueue returns the queue of a controller in which at most the given number of workers serves one namespace. It has no effect if the
// controller has no more workers.
func newFairQueue(most int, log logr.Logger) func(string, workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return func(controller string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
		return &fairQueue{
			PriorityQueue: priorityqueue.New(controller, func(o *priorityqueue.Opts[reconcile.Request]) {
				o.RateLimiter, o.Log = limiter, log.WithValues("controller", controller)
			}),
			most:       most,
			namespaces: map[string]*namespaceQueue{},
		}
	}
}

// Get returns the next request, as GetWithPriority does.
func (q *fairQueue) Get() (request reconcile.Request, shutdown bool) {
	request, _, shutdown = q.GetWithPriority()
	return request, shutdown
}

// GetWithPriority waits for the next request that a worker may serve.
func (q *fairQueue) GetWithPriority() (request reconcile.Request, priority int, shutdown bool) {
	for {
		request, priority, shutdown = q.PriorityQueue.GetWithPriority()
		if shutdown || q.begin(request, priority) {
			return request, priority, shutdown
		}
		q.PriorityQueue.Done(request)
	}
}

// Done ends the work on a request, and starts the next waiting request of its namespace.
func (q *fairQueue) Done(request reconcile.Request) {
	q.PriorityQueue.Done(request)
	if next, found := q.end(request.Namespace); found {
		q.AddWithOpts(priorityqueue.AddOpts{Priority: &next.priority}, next.Request)
	}
}

// begin reports whether a worker may serve a request. Otherwise it adds the request to the waiting requests.
func (q *fairQueue) begin(request reconcile.Request, priority int) bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	of := q.namespaces[request.Namespace]
	if of == nil {
		of = &namespaceQueue{next: map[reconcile.Request]int{}, waiting: waitingRequests{at: map[reconcile.Request]int{}}}
		q.namespaces[request.Namespace] = of
	}
	if _, reserved := of.next[request]; reserved {
		delete(of.next, request)
		return true
	}
	if of.running < q.most {
		of.running++
		return true
	}
	for reserved, lower := range of.next {
		if lower < priority { // the other request waits again when it arrives here
			delete(of.next, reserved)
			return true
		}
	}
	q.added++
	of.waiting.add(waitingRequest{Request: request, priority: priority, added: q.added})
	return false
}

// end frees a worker of a namespace. If a request waits, it returns this request and reserves the worker for it.
func (q *fairQueue) end(namespace string) (next waitingRequest, found bool) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	of := q.namespaces[namespace]
	if of.waiting.Len() > 0 {
		next = heap.Pop(&of.waiting).(waitingRequest)
		of.next[next.Request] = next.priority
		return next, true
	}
	if of.running--; of.running == 0 {
		delete(q.namespaces, namespace)
	}
	return waitingRequest{}, false
}

type waitingRequest struct {
	reconcile.Request
	priority int
	added    uint64
}

// waitingRequests is a heap, ordered by priority (highest first) and then by the order of addition.
type waitingRequests struct {
	all []waitingRequest
	at  map[reconcile.Request]int
}

// add adds a request, or raises the priority of a request that already waits.
func (w *waitingRequests) add(request waitingRequest) {
	i, waits := w.at[request.Request]
	switch {
	case !waits:
		heap.Push(w, request)
	case w.all[i].priority < request.priority:
		w.all[i] = request
		heap.Fix(w, i)
	}
}

func (w *waitingRequests) Len() int { return len(w.all) }

func (w *waitingRequests) Less(i, j int) bool {
	a, b := w.all[i], w.all[j]
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.added, b.added)) < 0
}

func (w *waitingRequests) Swap(i, j int) {
	w.all[i], w.all[j] = w.all[j], w.all[i]
	w.at[w.all[i].Request], w.at[w.all[j].Request] = i, j
}

// Push implements heap.Interface.
func (w *waitingRequests) Push(x any) {
	request := x.(waitingRequest)
	w.at[request.Request] = len(w.all)
	w.all = append(w.all, request)
}

// Pop implements heap.Interface.
func (w *waitingRequests) Pop() any {
	last := w.all[len(w.all)-1]
	w.all = w.all[:len(w.all)-1]
	delete(w.at, last.Request)
	return last
}
