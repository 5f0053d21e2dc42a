package session

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Errors of sessions.
var (
	// ErrDraining is the error of a new session while the pod stops.
	ErrDraining = errors.New("this pod stops and takes no new sessions")
	// ErrEnded is the error of a request to a session that has ended for good.
	ErrEnded = errors.New("the session has ended")
	// ErrMoved is why a session ends that another pod may recreate.
	ErrMoved = errors.New("this pod does not serve the session any more")
)

// Draining tells that the pod stops. It may be used by several goroutines.
type Draining struct {
	hasBegun atomic.Bool
	changed  chan struct{} // a request has ended
}

// NewDraining returns the state of a pod that does not stop.
func NewDraining() *Draining { return &Draining{changed: make(chan struct{}, 1)} }

// HasBegun reports whether the pod stops.
func (d *Draining) HasBegun() bool { return d.hasBegun.Load() }

// Notify tells Sessions.Drain that a request has ended.
func (d *Draining) Notify() {
	if !d.hasBegun.Load() {
		return
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Closer is a session that ends when the pod does not have it any more.
type Closer interface {
	// Close ends the session with ErrEnded or ErrMoved. What takes time is done in the background.
	Close(cause error)
}

// Config says how the sessions of a pod are kept.
type Config[S Closer] struct {
	// Ordinal is the ordinal of this pod.
	Ordinal uint16
	// Most is the number of sessions at most. A session that is not used for the duration Idle ends; if Idle is 0, none does.
	Most int
	Idle time.Duration
	// Draining is that of the pod.
	Draining *Draining
	// OnFull is called for each new session that is refused because there is no place.
	OnFull func()
	// HasCalls reports whether a session has work that is no HTTP request in progress: a pod that drains waits for it. It may be nil.
	HasCalls func(S) bool
	// IsBusy reports whether such work keeps a session from being idle. It may be nil.
	IsBusy func(S) bool
}

// Sessions are the sessions of this pod from their beginning to their end. They may be used by several goroutines.
type Sessions[S Closer] struct {
	config Config[S]
	start  uint32
	table  *Table[S]
}

// NewSessions returns the sessions of a pod that begins.
func NewSessions[S Closer](config Config[S]) *Sessions[S] {
	never := func(S) bool { return false }
	if config.HasCalls == nil {
		config.HasCalls = never
	}
	if config.IsBusy == nil {
		config.IsBusy = never
	}
	return &Sessions[S]{
		config: config, table: NewTable[S](config.Most, config.Idle, time.Now),
		start: uint32(time.Now().Unix()), //nolint:gosec // until 2106
	}
}

// NewRecord returns the record of a new session of this pod.
func (s *Sessions[S]) NewRecord() Record { return New(s.config.Ordinal, s.start) }

// Reserve reserves a place for a session that is being opened. It fails with ErrDraining or ErrFull. The caller must call open or release; what is called
// later has no effect.
func (s *Sessions[S]) Reserve() (open func(id string, one S), release func(), err error) {
	if s.config.Draining.HasBegun() {
		return nil, nil, ErrDraining
	}
	if open, release, err = s.table.Reserve(); err != nil {
		s.config.OnFull()
	}
	return open, release, err
}

// Use returns a session. The session is in use until done is called, which must be done if the state is Live.
func (s *Sessions[S]) Use(id string) (one S, done func(), state State) {
	one, release, state := s.table.Use(id)
	if state != Live {
		return one, nil, state
	}
	return one, func() { release(); s.config.Draining.Notify() }, Live
}

// Hold keeps a session with this pod until release is called, which must be done if the state is Live.
func (s *Sessions[S]) Hold(id string) (release func(), state State) {
	_, release, state = s.Use(id)
	return release, state
}

// Peek returns a session without using it: it may become idle.
func (s *Sessions[S]) Peek(id string) (one S, state State) { return s.table.Peek(id) }

// State returns what this pod knows of a session.
func (s *Sessions[S]) State(id string) State { return s.table.State(id) }

// End ends a session, and remembers that it has ended.
func (s *Sessions[S]) End(id string) {
	if one, wasLive := s.table.End(id); wasLive {
		one.Close(ErrEnded)
	}
}

// Forget is End for a session that has ended elsewhere: the caller closes it if necessary.
func (s *Sessions[S]) Forget(id string) (one S, wasLive bool) { return s.table.End(id) }

// Ended returns the ended sessions that this pod remembers.
func (s *Sessions[S]) Ended() []string { return s.table.Ended() }

// Drop lets a session go that another pod has.
func (s *Sessions[S]) Drop(id string) {
	if one, wasLive := s.table.Drop(id); wasLive {
		one.Close(ErrMoved)
	}
}

// Load returns the number of sessions, the most that there may be, and whether new sessions are accepted.
func (s *Sessions[S]) Load() (open, most int, isAccepting bool) {
	return s.table.Len(), s.config.Most, !s.config.Draining.HasBegun()
}

// IsDraining reports whether the pod stops.
func (s *Sessions[S]) IsDraining() bool { return s.config.Draining.HasBegun() }

// EndIdle ends idle sessions until ctx ends.
func (s *Sessions[S]) EndIdle(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, one := range s.table.EndIdle(s.config.IsBusy) {
				one.Close(ErrEnded)
			}
		}
	}
}

// BeginDrain refuses new sessions from now on.
func (s *Sessions[S]) BeginDrain() { s.config.Draining.hasBegun.Store(true) }

// Drain takes no new sessions, and lets each session go that has no request in progress. When ctx ends, it lets all go. It returns when no
// session is left and each function in others returns 0. These functions return the number of requests in progress that belong to no session.
func (s *Sessions[S]) Drain(ctx context.Context, others ...func() int) {
	s.BeginDrain()
	for {
		for _, one := range s.table.DropUnused(s.config.HasCalls) {
			one.Close(ErrMoved)
		}
		left := s.table.Len()
		for _, inProgress := range others {
			left += inProgress()
		}
		if left == 0 {
			return
		}
		select {
		case <-s.config.Draining.changed:
		case <-ctx.Done():
			for _, one := range s.table.DropAll() {
				one.Close(ErrMoved)
			}
			return
		}
	}
}
