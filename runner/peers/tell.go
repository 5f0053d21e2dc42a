package peers

import (
	"context"
	"net/http"
	"sync"
	"time"

	"mcpserver-operator/runner/session"
)

// noticeKind is what a pod tells another one about a session.
type noticeKind int

const (
	// noticeEnded means that the client has ended the session: nobody may recreate it.
	noticeEnded noticeKind = iota
	// noticeMoved means that the pod that sends the notice has the session: a pod that has it too lets it go.
	noticeMoved
)

// notice is what a pod that could not be reached has to know.
type notice struct {
	kind    noticeKind
	id      string
	ordinal uint16
}

const (
	// mostNotices is the number of notices that wait. More are dropped.
	mostNotices = 10_000
	// noticeInterval is the time between two attempts.
	noticeInterval = time.Second
	// noticeAge is how long a notice is tried. A pod that is away for longer is a new pod when it comes back.
	noticeAge = 10 * time.Minute
)

// notices are sent in the background until the pods have got them or do not exist any more.
type notices struct {
	router *Router

	mutex     sync.Mutex
	pending   map[notice]time.Time
	isRunning bool
}

// add adds a notice for pods.
func (n *notices) add(one notice, ordinals []uint16) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for _, ordinal := range ordinals {
		if one.ordinal = ordinal; len(n.pending) < mostNotices {
			n.pending[one] = time.Now()
		}
	}
	if len(n.pending) > 0 && !n.isRunning && n.router.ctx.Err() == nil {
		n.isRunning = true
		n.router.running.Go(n.run)
	}
}

// run sends the notices until there are none.
func (n *notices) run() {
	ticker := time.NewTicker(noticeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-n.router.ctx.Done():
			return
		}
		n.sendAll()
		n.mutex.Lock()
		if len(n.pending) == 0 {
			n.isRunning = false
			n.mutex.Unlock()
			return
		}
		n.mutex.Unlock()
	}
}

// sendAll tries to send each notice once. After a failure, the other notices for the same pod wait.
func (n *notices) sendAll() {
	n.router.members.all(n.router.ctx)
	byPod := map[uint16][]notice{}
	n.mutex.Lock()
	for one, since := range n.pending {
		hasMovedOn := one.kind == noticeMoved && n.router.config.Local.State(one.id) != session.Live
		if hasMovedOn || time.Since(since) > noticeAge || !n.router.members.has(one.ordinal) {
			delete(n.pending, one)
			continue
		}
		byPod[one.ordinal] = append(byPod[one.ordinal], one)
	}
	n.mutex.Unlock()
	var sending sync.WaitGroup
	for _, all := range byPod {
		sending.Go(func() {
			for _, one := range all {
				if n.router.send(n.router.ctx, n.router.members.find(one.ordinal), one) != nil {
					return
				}
				n.mutex.Lock()
				delete(n.pending, one)
				n.mutex.Unlock()
			}
		})
	}
	sending.Wait()
}

// send tells a peer a notice.
func (r *Router) send(ctx context.Context, peer Peer, one notice) error {
	method, path := http.MethodDelete, "/sessions/"+one.id
	if one.kind == noticeMoved {
		method, path = http.MethodPost, path+"/moved"
	}
	_, err := r.request(ctx, peer, method, path)
	return err
}

// tellEnded tells all other pods that a session has ended. It waits at most askTimeout for them; the pods that do not answer are told later.
func (r *Router) tellEnded(ctx context.Context, id string) {
	ctx = context.WithoutCancel(ctx) // the client may be gone
	one := notice{kind: noticeEnded, id: id}
	var silent []uint16
	for _, reply := range each(ctx, r.members.all(ctx), func(ctx context.Context, peer Peer) (answer, error) { return answer{}, r.send(ctx, peer, one) },
		func(answer) bool { return false }) {
		if reply.err != nil {
			silent = append(silent, reply.peer.Ordinal)
		}
	}
	r.notices.add(one, silent)
}
