package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/session"
)

// Config says how sessions are run.
type Config struct {
	// Target is the URL of the server. Clients choose the path of their requests; the path of Target is that of the requests of the runner itself, if no
	// client has used another. Defaults to /mcp.
	Target *url.URL
	// KeepHost is true if the server gets the header Host of the client. Otherwise it gets that of Target, because many servers that listen on the loopback
	// interface allow no other (DNS rebinding).
	KeepHost bool
	// Ordinal is the ordinal of this pod.
	Ordinal uint16
	// Most is the number of sessions at most; Idle is how long a session may be unused.
	Most int
	Idle time.Duration
	// OpenTimeout is how long the server may take to open a session again.
	OpenTimeout time.Duration
	// Wait is how long a request waits for a server that does not accept connections, for example because its container restarts: few clients try again.
	// Defaults to 5 seconds; a negative duration is not at all.
	Wait    time.Duration
	Metrics *metrics.Set
}

const (
	dialTimeout = time.Second
	// silentTimeout is how long the connection to the server may be silent before it fails.
	silentTimeout = 15 * time.Second
	// idleTimeout is how long a connection to the server is kept. Common servers close an idle connection after five seconds.
	idleTimeout = 4 * time.Second
	// defaultWait is the default of Config.Wait, and waitInterval the time between two attempts.
	defaultWait  = 5 * time.Second
	waitInterval = 100 * time.Millisecond
	// endTimeout is how long the server may take to end a session.
	endTimeout = 5 * time.Second
)

// Sessions are the sessions of this pod.
type Sessions struct {
	config    Config
	start     uint32
	table     *session.Table[*Session]
	transport *http.Transport
	readiness readiness
	draining  atomic.Bool
	changed   chan struct{} // while draining: a request has ended
	running   sync.WaitGroup
}

// Errors of Sessions.
var (
	// ErrDraining is the error of a new session while the pod stops.
	ErrDraining = errors.New("this pod stops and takes no new sessions")
	// ErrEnded is why a session has ended for good.
	ErrEnded = errors.New("the session has ended")
	// ErrMoved is why a session has ended here, and another pod may open it again.
	ErrMoved = errors.New("this pod does not serve the session any more")
)

// NewSessions returns the sessions of a pod.
func NewSessions(config Config) *Sessions {
	if config.Wait == 0 {
		config.Wait = defaultWait
	}
	return &Sessions{
		config: config, table: session.NewTable[*Session](config.Most, config.Idle, time.Now),
		start:     uint32(time.Now().Unix()), //nolint:gosec // until 2106
		transport: relay.NewTransport(relay.Options{Dial: dialTimeout, Silent: silentTimeout, Idle: idleTimeout, Conns: 100}),
		changed:   make(chan struct{}, 1),
	}
}

// Close waits until the server knows which sessions have ended, for at most a few seconds.
func (s *Sessions) Close() {
	s.running.Wait()
	s.transport.CloseIdleConnections()
}

func (s *Sessions) newRecord() session.Record { return session.New(s.config.Ordinal, s.start) }

// reserve reserves a place for a new session.
func (s *Sessions) reserve() (open func(string, *Session), release func(), err error) {
	if s.draining.Load() {
		return nil, nil, ErrDraining
	}
	if open, release, err = s.table.Reserve(); err != nil {
		s.config.Metrics.Refused.Inc()
	}
	return open, release, err //nolint:wrapcheck // says what is full
}

// use returns a session. If keep is true, it is in use, and so not idle, until done is called.
func (s *Sessions) use(id string, keep bool) (one *Session, done func(), state session.State) {
	if !keep {
		one, state = s.table.Peek(id)
		return one, func() {}, state
	}
	one, release, state := s.table.Use(id)
	if state != session.Live {
		return nil, nil, state
	}
	return one, func() { release(); s.notify() }, session.Live
}

// patiently sends a request again as long as nothing of it reaches the server, for the time that requests wait.
func (s *Sessions) patiently(ctx context.Context, send func() error) error {
	deadline := time.Now().Add(s.config.Wait)
	for {
		err := send()
		if _, notSent := errors.AsType[notSentError](err); !notSent || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(waitInterval):
		case <-ctx.Done():
			return err
		}
	}
}

// State returns what this pod knows of a session.
func (s *Sessions) State(id string) session.State { return s.table.State(id) }

// forget remembers that a session has ended. The server knows it already.
func (s *Sessions) forget(id string) {
	if one, wasLive := s.table.End(id); wasLive {
		one.cancel(ErrEnded)
	}
}

// End ends a session, and remembers that it has ended.
func (s *Sessions) End(id string) {
	if one, wasLive := s.table.End(id); wasLive {
		one.end(ErrEnded)
	}
}

// Drop lets a session go that another pod has.
func (s *Sessions) Drop(id string) {
	if one, wasLive := s.table.Drop(id); wasLive {
		one.end(ErrMoved)
	}
}

// Take takes a session that has lost its pod. Its first request opens a session of the server, because that request has the credentials of the client.
func (s *Sessions) Take(_ context.Context, record session.Record) error {
	id := record.ID()
	switch s.table.State(id) {
	case session.Live:
		return nil
	case session.Ended:
		return ErrEnded
	case session.Absent:
	}
	initialize, err := session.Initialize(record)
	if err != nil {
		return err //nolint:wrapcheck // says what failed
	}
	open, release, err := s.reserve()
	if err != nil {
		return err
	}
	defer release()
	one := newSession(s, record.Version)
	one.initialize = initialize
	open(id, one)
	return nil
}

// Load returns the number of sessions, the most that there may be, and whether new sessions are accepted.
func (s *Sessions) Load() (open, most int, isAccepting bool) {
	return s.table.Len(), s.config.Most, !s.draining.Load()
}

// IsDraining reports whether the pod stops.
func (s *Sessions) IsDraining() bool { return s.draining.Load() }

// EndIdle ends idle sessions until ctx ends.
func (s *Sessions) EndIdle(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, one := range s.table.EndIdle() {
				one.end(ErrEnded)
			}
		}
	}
}

// Drain takes no new sessions, and lets each session go that has no request in progress. When ctx ends, it lets all go. It returns when there are none.
func (s *Sessions) Drain(ctx context.Context) {
	s.draining.Store(true)
	for {
		for _, one := range s.table.DropUnused() {
			one.end(ErrMoved)
		}
		if s.table.Len() == 0 {
			return
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			for _, one := range s.table.DropAll() {
				one.end(ErrMoved)
			}
			return
		}
	}
}

// notify tells Drain that a request has ended.
func (s *Sessions) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
