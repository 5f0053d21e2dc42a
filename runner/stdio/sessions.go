package stdio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

// Sessions are the sessions of this pod.
type Sessions struct {
	backend *Backend
	table   *session.Table[*Session]
	most    int
	ordinal uint16
	start   uint32
	taking  singleflight.Group
}

// Errors of Sessions.
var (
	// ErrDraining is the error of a new session while the pod stops.
	ErrDraining = errors.New("this pod stops and takes no new sessions")
	// ErrNoServer is the error of a new session if the server cannot be started, or ends.
	ErrNoServer = errors.New("the server cannot be used")
)

// NewSessions returns the sessions of the pod with an ordinal. At most most sessions are open, each at most for the time idle without a request.
func NewSessions(backend *Backend, ordinal uint16, most int, idle time.Duration) *Sessions {
	return &Sessions{
		backend: backend, table: session.NewTable[*Session](most, idle, time.Now), most: most, ordinal: ordinal,
		start: uint32(time.Now().Unix()), //nolint:gosec // until 2106
	}
}

// Opened is a new session.
type Opened struct {
	// ID is the session id; empty if the server has refused to open the session.
	ID string
	// Events are the messages of the server until the response, which is the last.
	Events []stream.Event
	// Stream is the name of the stream of the request.
	Stream string
}

// Initialize opens a session with the request initialize of a client, and waits for the answer of the server. If ctx ends first, the client cannot know
// the session id and the session ends.
func (s *Sessions) Initialize(ctx context.Context, request rpc.Message) (Opened, error) {
	defer s.backend.notify()
	open, release, err := s.reserve()
	if err != nil {
		return Opened{}, err
	}
	defer release()
	one, err := s.backend.Open()
	if err != nil {
		return Opened{}, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	one.initialize = request
	opened, record, err := one.open(ctx, request)
	if err != nil || record.Version == "" {
		one.Close(ErrEnded)
		return opened, err
	}
	record.Ordinal, record.Start = s.ordinal, s.start
	opened.ID = record.ID()
	one.SetID(opened.ID)
	open(opened.ID, one)
	return opened, nil
}

// OpenStream opens a session for the transport HTTP+SSE, whose messages all go to the general stream. The session is in use until done is called.
func (s *Sessions) OpenStream() (id string, one *Session, done func(), err error) {
	open, release, err := s.reserve()
	if err != nil {
		return "", nil, nil, err
	}
	defer release()
	one, err = s.backend.Open()
	if err != nil {
		return "", nil, nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	one.onOneStream()
	id = session.New(s.ordinal, s.start).ID()
	one.SetID(id)
	open(id, one)
	return id, one, func() { s.End(id) }, nil
}

func (s *Sessions) reserve() (open func(string, *Session), release func(), err error) {
	if s.backend.draining.Load() {
		return nil, nil, ErrDraining
	}
	open, release, err = s.table.Reserve()
	if err != nil {
		s.backend.config.Metrics.Refused.Inc()
	}
	return open, release, err
}

// open sends the request initialize and reads its stream to the end. The version of the record is empty if the server has refused.
func (s *Session) open(ctx context.Context, request rpc.Message) (Opened, session.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.config.StartTimeout)
	defer cancel()
	reader, err := s.Call(ctx, request)
	if err != nil {
		return Opened{}, session.Record{}, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	defer reader.Detach()
	opened := Opened{Stream: reader.Log().Name}
	for isEnd := false; !isEnd; {
		var events []stream.Event
		if events, isEnd, err = reader.Next(ctx); err != nil {
			return Opened{}, session.Record{}, fmt.Errorf("%w: waiting for the answer to initialize: %w", ErrNoServer, err)
		}
		opened.Events = append(opened.Events, events...)
	}
	if len(opened.Events) == 0 {
		return Opened{}, session.Record{}, fmt.Errorf("%w: it has not answered initialize", ErrNoServer)
	}
	answer, err := rpc.Parse(opened.Events[len(opened.Events)-1].Data)
	if err != nil {
		return Opened{}, session.Record{}, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	if answer.Result == nil {
		s.mutex.Lock()
		isGone := s.running() == nil
		s.mutex.Unlock()
		if message, _ := rpc.GetString(answer.Raw, "error", "message"); isGone {
			return Opened{}, session.Record{}, fmt.Errorf("%w: %s", ErrNoServer, message)
		}
		return opened, session.Record{}, nil
	}
	record := session.New(0, 0)
	record.Version, _ = rpc.GetString(answer.Result, "protocolVersion")
	if !slices.Contains(rpc.Legacy, record.Version) {
		record.Version = rpc.Polling // the id has no place for others
	}
	record.Capabilities = session.CapabilitiesOf(rpc.Get(request.Params, "capabilities"))
	return opened, record, nil
}

// Use returns a session. The session is in use until done is called, which must be done if the state is session.Live.
func (s *Sessions) Use(id string) (one *Session, done func(), state session.State) {
	one, release, state := s.table.Use(id)
	if state != session.Live {
		return nil, nil, state
	}
	if one.IsEnded() {
		release()
		s.End(id)
		return nil, nil, session.Ended
	}
	return one, func() { release(); s.backend.notify() }, session.Live
}

// Peek returns a session without using it: it may become idle.
func (s *Sessions) Peek(id string) (one *Session, state session.State) {
	one, state = s.table.Peek(id)
	if state == session.Live && one.IsEnded() {
		s.End(id)
		return nil, session.Ended
	}
	return one, state
}

// State returns what this pod knows of a session.
func (s *Sessions) State(id string) session.State { return s.table.State(id) }

// End ends a session, and remembers that it has ended.
func (s *Sessions) End(id string) {
	if one, wasLive := s.table.End(id); wasLive {
		one.Close(ErrEnded)
	}
}

// Drop lets a session go that another pod has.
func (s *Sessions) Drop(id string) {
	if one, wasLive := s.table.Drop(id); wasLive {
		one.Close(ErrMoved)
	}
}

// Take recreates a session that was lost. If several requests ask for it at the same time, it is recreated once.
// A session of HTTP+SSE ends with its stream and is not recreated.
func (s *Sessions) Take(ctx context.Context, record session.Record) error {
	if record.Version == "" {
		return ErrEnded
	}
	id := record.ID()
	result := s.taking.DoChan(id, func() (any, error) {
		switch s.table.State(id) {
		case session.Live:
			return nil, nil
		case session.Ended:
			return nil, ErrEnded
		case session.Absent:
		}
		defer s.backend.notify()
		open, release, err := s.reserve()
		if err != nil {
			return nil, err
		}
		defer release()
		one, err := s.backend.Recreate(context.WithoutCancel(ctx), record) // others may wait for it too
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
		}
		open(id, one)
		return nil, nil
	})
	select {
	case done := <-result:
		return done.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Load returns the number of sessions, the most that there may be, and whether new sessions are accepted.
func (s *Sessions) Load() (open, most int, isAccepting bool) {
	open = s.table.Len()
	return open, s.most, !s.backend.draining.Load()
}

// IsDraining reports whether the pod stops.
func (s *Sessions) IsDraining() bool { return s.backend.draining.Load() }

// EndIdle ends idle sessions until ctx ends.
func (s *Sessions) EndIdle(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, one := range s.table.EndIdle(func(one *Session) bool { return one.single && one.hasCalls() }) {
				one.Close(ErrEnded)
			}
		}
	}
}

// Drain takes no new sessions, lets those go that have no request in progress, and the others when their requests have ended, with those that use no session.
// When ctx ends, it lets all go. It returns when there are none.
func (s *Sessions) Drain(ctx context.Context, shared *Shared) {
	s.backend.draining.Store(true)
	shared.complete()
	for {
		for _, one := range s.table.DropUnused((*Session).hasCalls) {
			one.Close(ErrMoved)
		}
		if s.table.Len() == 0 && shared.inProgress() == 0 {
			return
		}
		select {
		case <-s.backend.changed:
		case <-ctx.Done():
			for _, one := range s.table.DropAll() {
				one.Close(ErrMoved)
			}
			return
		}
	}
}
