package peers

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// loadAge is how long the loads of the other pods are used before they are asked again. With many pods it is longer, see balance.refresh.
	loadAge = time.Second
	// peersPerAge is the number of peers above which loadAge grows, so that questions about loads stay few.
	peersPerAge = 32
	// leastAge is how long the loads are used even if no pod has room.
	leastAge = 100 * time.Millisecond
	// slack and slackPart say how many sessions more than the pod with the fewest a pod may have, and still gets new ones because its ordinal is lower.
	// A StatefulSet removes the highest ordinals first.
	slack     = 2
	slackPart = 4
)

// balance knows the loads of the other pods.
type balance struct {
	mutex      sync.Mutex
	loads      map[uint16]load
	asked      time.Time
	until      time.Time
	refreshing chan struct{} // closed when the loads are new; nil if nobody asks
}

// open opens a session: on this pod, or on another one that has fewer sessions or a lower ordinal.
func (r *Router) open(c *call) {
	if c.r.Header.Get(ForwardedHeader) != "" {
		if !r.load().hasRoom() {
			c.refuseAbsent() // the pod that has forwarded the request tries the next
			return
		}
		r.serveHere(c)
		return
	}
	if r.openSomewhere(c) || (r.balance.expire() && r.openSomewhere(c)) { // the loads may be from before a pod has started
		return
	}
	if r.load().Accepting { // otherwise this pod drains or its server is not ready, which is no lack of room
		r.config.OnFull()
	}
	c.refuseFull()
}

// openSomewhere opens a session on the first pod that can do it.
func (r *Router) openSomewhere(c *call) (isDone bool) {
	for _, ordinal := range r.openers(c.r.Context()) {
		if ordinal == r.config.Ordinal {
			r.serveHere(c)
			return true
		}
		r.balance.count(ordinal)
		switch r.forward(c, ordinal, false) {
		case done:
			return true
		case absent, unreachable:
			r.balance.exclude(ordinal)
		}
	}
	return false
}

// openers returns the pods that can open a session, in the order of preference.
func (r *Router) openers(ctx context.Context) []uint16 {
	loads := r.balance.refresh(ctx, r)
	loads[r.config.Ordinal] = r.load()
	return order(loads)
}

// order returns the pods that have room in the order in which they get a new session: the lowest ordinals first, as long as they do not have
// much more than the pod with the fewest sessions.
func order(loads map[uint16]load) []uint16 {
	var near, far []uint16
	least := -1
	for _, one := range loads {
		if one.hasRoom() && (least < 0 || one.Sessions < least) {
			least = one.Sessions
		}
	}
	for ordinal, one := range loads {
		switch {
		case !one.hasRoom():
		case one.Sessions <= least+max(slack, least/slackPart):
			near = append(near, ordinal)
		default:
			far = append(far, ordinal)
		}
	}
	slices.Sort(near)
	slices.SortFunc(far, func(a, b uint16) int {
		if d := loads[a].Sessions - loads[b].Sessions; d != 0 {
			return d
		}
		return int(a) - int(b)
	})
	return append(near, far...)
}

// refresh returns a copy of the loads of the other pods, and asks them before if the loads are old.
func (b *balance) refresh(ctx context.Context, r *Router) map[uint16]load {
	b.mutex.Lock()
	if time.Now().After(b.until) && b.refreshing == nil && r.ctx.Err() == nil {
		b.refreshing = make(chan struct{})
		r.running.Go(func() { b.ask(r) })
	}
	refreshing := b.refreshing
	b.mutex.Unlock()
	if refreshing != nil {
		select {
		case <-refreshing:
		case <-ctx.Done():
		}
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return maps.Clone(b.loads)
}

func (b *balance) ask(r *Router) {
	peers := r.members.all(r.ctx)
	replies := each(r.ctx, peers, func(ctx context.Context, peer Peer) (answer, error) {
		return r.request(ctx, peer, http.MethodGet, "/sessions")
	}, func(answer) bool { return false })
	b.mutex.Lock()
	defer b.mutex.Unlock()
	clear(b.loads)
	for _, one := range replies {
		if one.err == nil {
			b.loads[one.peer.Ordinal] = one.load
		}
	}
	b.asked = time.Now()
	b.until = b.asked.Add(loadAge * time.Duration(max(1, len(peers)/peersPerAge)))
	close(b.refreshing)
	b.refreshing = nil
}

// count counts a session that is about to be opened on a peer, until the loads are asked again.
func (b *balance) count(ordinal uint16) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if one, isKnown := b.loads[ordinal]; isKnown {
		one.Sessions++
		b.loads[ordinal] = one
	}
}

// exclude gives a peer no new sessions until the loads are asked again.
func (b *balance) exclude(ordinal uint16) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	delete(b.loads, ordinal)
}

// expire lets the loads be asked again at the next request, if they are not quite new.
func (b *balance) expire() (isOld bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if isOld = time.Since(b.asked) > leastAge; isOld {
		b.until = time.Time{}
	}
	return isOld
}
