package stdio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

// Sessions are the sessions of this pod.
type Sessions struct {
	*session.Sessions[*Session]
	backend *Backend
	taking  singleflight.Group
}

// ErrNoServer is the error of a new session if the server cannot be started, or ends.
var ErrNoServer = errors.New("the server cannot be used")

// NewSessions returns the sessions of the pod with an ordinal. At most most sessions are open, each at most for the time idle without a request.
func NewSessions(backend *Backend, ordinal uint16, most int, idle time.Duration) *Sessions {
	return &Sessions{
		backend: backend,
		Sessions: session.NewSessions(session.Config[*Session]{
			Ordinal: ordinal, Most: most, Idle: idle, Draining: backend.draining, OnFull: backend.config.Metrics.Refused.Inc,
			HasCalls: (*Session).hasCalls, IsBusy: func(one *Session) bool { return one.single && one.hasCalls() },
		}),
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
	defer s.backend.draining.Notify()
	open, release, err := s.Reserve()
	if err != nil {
		return Opened{}, err
	}
	defer release()
	one, err := s.backend.Open()
	if err != nil {
		return Opened{}, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	one.initialize = request
	opened, version, err := one.open(ctx, request)
	if err != nil || version == "" {
		one.Close(session.ErrEnded)
		return opened, err
	}
	record := s.NewRecord()
	record.Version, record.Capabilities = version, session.CapabilitiesOf(rpc.Get(request.Params, "capabilities"))
	opened.ID = record.ID()
	one.SetID(opened.ID)
	open(opened.ID, one)
	return opened, nil
}

// OpenStream opens a session for the transport HTTP+SSE, whose messages all go to the general stream. The session is in use until done is called.
func (s *Sessions) OpenStream() (id string, one *Session, done func(), err error) {
	open, release, err := s.Reserve()
	if err != nil {
		return "", nil, nil, err
	}
	defer release()
	one, err = s.backend.Open()
	if err != nil {
		return "", nil, nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	one.onOneStream()
	id = s.NewRecord().ID()
	one.SetID(id)
	open(id, one)
	return id, one, func() { s.End(id) }, nil
}

// open sends the request initialize and reads its stream to the end. The protocol version is empty if the server has refused.
func (s *Session) open(ctx context.Context, request rpc.Message) (opened Opened, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.config.StartTimeout)
	defer cancel()
	reader, err := s.Call(ctx, request)
	if err != nil {
		return Opened{}, "", fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	defer reader.Detach()
	opened.Stream = reader.Log().Name
	for isEnd := false; !isEnd; {
		var events []stream.Event
		if events, isEnd, err = reader.Next(ctx); err != nil {
			return Opened{}, "", fmt.Errorf("%w: waiting for the answer to initialize: %w", ErrNoServer, err)
		}
		opened.Events = append(opened.Events, events...)
	}
	if len(opened.Events) == 0 {
		return Opened{}, "", fmt.Errorf("%w: it has not answered initialize", ErrNoServer)
	}
	answer, err := rpc.Parse(opened.Events[len(opened.Events)-1].Data)
	if err != nil {
		return Opened{}, "", fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	if answer.Result == nil {
		s.mutex.Lock()
		isGone := s.running() == nil
		s.mutex.Unlock()
		if message, _ := rpc.GetString(answer.Raw, "error", "message"); isGone {
			return Opened{}, "", fmt.Errorf("%w: %s", ErrNoServer, message)
		}
		return opened, "", nil
	}
	version, _ = rpc.GetString(answer.Result, "protocolVersion")
	return opened, session.KnownVersion(version), nil
}

// Use returns a session. The session is in use until done is called, which must be done if the state is session.Live.
func (s *Sessions) Use(id string) (one *Session, done func(), state session.State) {
	one, done, state = s.Sessions.Use(id)
	if state == session.Live && one.IsEnded() {
		done()
		s.End(id)
		return nil, nil, session.Ended
	}
	return one, done, state
}

// Peek returns a session without using it: it may become idle.
func (s *Sessions) Peek(id string) (one *Session, state session.State) {
	one, state = s.Sessions.Peek(id)
	if state == session.Live && one.IsEnded() {
		s.End(id)
		return nil, session.Ended
	}
	return one, state
}

// Take recreates a session that was lost. If several requests ask for it at the same time, it is recreated once.
// A session of HTTP+SSE ends with its stream and is not recreated.
func (s *Sessions) Take(ctx context.Context, record session.Record) error {
	if record.Version == "" {
		return session.ErrEnded
	}
	id := record.ID()
	result := s.taking.DoChan(id, func() (any, error) {
		switch s.State(id) {
		case session.Live:
			return nil, nil
		case session.Ended:
			return nil, session.ErrEnded
		case session.Absent:
		}
		defer s.backend.draining.Notify()
		open, release, err := s.Reserve()
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

// Drain is session.Sessions.Drain. Requests that use no session end too.
func (s *Sessions) Drain(ctx context.Context, shared *Shared) {
	s.BeginDrain()
	shared.complete()
	s.Sessions.Drain(ctx, shared.inProgress)
}
