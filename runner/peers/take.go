package peers

import (
	"context"
	"errors"
	"sync"
	"time"

	"mcpserver-operator/runner/session"
)

// phase is how far this pod is with recreating a session.
type phase int

const (
	// unclaimed means that this pod does not recreate the session.
	unclaimed phase = iota
	// claimed means that this pod wants to recreate the session and asks whether another pod does or has it.
	claimed
	// committed means that this pod recreates the session. It does not give it up for another pod.
	committed
)

// claims are the sessions that this pod recreates. Two pods that see different lists of peers may both begin to recreate a session. Each sets its claim
// before it asks the others. So at least one of them sees the claim of the other; then the pod with the higher weight goes on.
type claims struct {
	mutex sync.Mutex
	byID  map[string]*claim
}

type claim struct {
	phase    phase
	hasEnded bool
}

func (c *claims) phaseOf(id string) phase {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found := c.byID[id]; found != nil {
		return found.phase
	}
	return unclaimed
}

// begin claims a session. The claim ends with release.
func (c *claims) begin(id string) (release func()) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.byID[id] = &claim{phase: claimed}
	return func() {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		delete(c.byID, id)
	}
}

func (c *claims) commit(id string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.byID[id].phase = committed
}

// end notes that a session has ended while it is being recreated.
func (c *claims) end(id string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found := c.byID[id]; found != nil {
		found.hasEnded = true
	}
}

func (c *claims) hasEnded(id string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.byID[id].hasEnded
}

// end ends a session here and remembers that it has ended, also if it is just being recreated.
func (r *Router) end(id string) {
	r.locations.forget(id)
	r.claims.end(id) // first: the recreation looks at it last
	r.config.Local.End(id)
}

// takenKind is the result of an attempt to recreate a session on this pod.
type takenKind int

const (
	// takenHere means that this pod has the session.
	takenHere takenKind = iota
	// takenElsewhere means that another pod has it, or recreates it.
	takenElsewhere
	// takenNowhere means that this pod has no room.
	takenNowhere
	// takenEnded means that the session was ended by the client.
	takenEnded
	// takenFailed means that the server cannot go on with the session.
	takenFailed
)

type taken struct {
	kind takenKind
	err  error // for takenFailed
}

const (
	// claimTimeout is how long a claim waits for another pod to give up its claim.
	claimTimeout = 3 * time.Second
	// claimInterval is the time between two questions.
	claimInterval = 20 * time.Millisecond
)

var errClaimed = errors.New("several pods want to recreate it")

// take recreates a session on this pod unless another pod has it. Concurrent calls for the same session recreate it once.
func (r *Router) take(c *call) taken {
	record := c.record
	result := r.taking.DoChan(c.id, func() (any, error) { return r.takeOnce(record), nil })
	select {
	case one := <-result:
		return one.Val.(taken)
	case <-c.r.Context().Done():
		return taken{takenFailed, context.Cause(c.r.Context())}
	}
}

func (r *Router) takeOnce(record session.Record) taken {
	id := record.ID()
	if !r.load().hasRoom() && r.config.Local.State(id) != session.Live {
		return taken{kind: takenNowhere}
	}
	defer r.claims.begin(id)()
	silent, result := r.claim(id)
	if result.kind != takenHere {
		return result
	}
	switch r.config.Local.State(id) {
	case session.Live:
		return taken{kind: takenHere}
	case session.Ended:
		return taken{kind: takenEnded}
	case session.Absent:
	}
	if err := r.config.Local.Take(r.ctx, record); err != nil {
		switch {
		case r.config.Local.State(id) == session.Ended:
			return taken{kind: takenEnded}
		case errors.Is(err, session.ErrFull), !r.load().Accepting:
			return taken{kind: takenNowhere}
		default:
			return taken{takenFailed, err}
		}
	}
	if r.claims.hasEnded(id) {
		r.config.Local.End(id)
		return taken{kind: takenEnded}
	}
	r.config.Log.Info("recreated a session that lost its pod", "session", session.Short(id), "pod", record.Ordinal)
	// A pod that did not answer may still have the session, for example behind a network that has failed. It must let it go when it is back.
	r.notices.add(notice{kind: noticeMoved, id: id}, silent)
	return taken{kind: takenHere}
}

// claim finds out whether this pod may recreate a session. If it may, the claim is committed. It returns the pods that did not answer.
func (r *Router) claim(id string) (silent []uint16, result taken) {
	deadline := time.Now().Add(claimTimeout)
	for {
		replies := r.askAll(r.ctx, id)
		isContested := false
		silent = nil
		for _, one := range replies {
			switch {
			case one.err != nil:
				silent = append(silent, one.peer.Ordinal)
			case one.State == stateLive:
				r.locations.set(id, one.peer.Ordinal)
				return nil, taken{kind: takenElsewhere}
			case one.State == stateEnded:
				r.end(id)
				return nil, taken{kind: takenEnded}
			case one.State == stateClaimed && outranks(id, one.peer.Ordinal, r.config.Ordinal):
				return nil, taken{kind: takenElsewhere}
			case one.State == stateClaimed: // it gives up, or it did not see this claim
				isContested = true
			}
		}
		if !isContested {
			r.claims.commit(id)
			return silent, taken{kind: takenHere}
		}
		if time.Now().After(deadline) {
			return nil, taken{takenFailed, errClaimed}
		}
		select {
		case <-time.After(claimInterval):
		case <-r.ctx.Done():
			return nil, taken{takenFailed, context.Cause(r.ctx)}
		}
	}
}
