package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/session"
)

// Config says how sessions are run.
type Config struct {
	// Target is the URL of the server. Its path is that of the endpoint.
	Target *url.URL
	// Ordinal is the ordinal of this pod.
	Ordinal uint16
	// Most is the number of sessions at most; Idle is how long a session may be unused.
	Most int
	Idle time.Duration
	// OpenTimeout is how long the server may take to open a session again.
	OpenTimeout time.Duration
	Metrics     *metrics.Set
}

// Sessions are the sessions of this pod.
type Sessions struct {
	config    Config
	start     uint32
	table     *session.Table[*Session]
	transport *http.Transport
	taking    singleflight.Group
	draining  atomic.Bool
	changed   chan struct{}
}

// Errors of Sessions.
var (
	// ErrDraining is the error of a new session while the pod stops.
	ErrDraining = errors.New("this pod stops and takes no new sessions")
	// ErrEnded is the error of taking a session that has ended.
	ErrEnded = errors.New("the session has ended")
)

// NewSessions returns the sessions of a pod.
func NewSessions(config Config) *Sessions {
	return &Sessions{
		config: config, table: session.NewTable[*Session](config.Most, config.Idle, time.Now),
		start: uint32(time.Now().Unix()), //nolint:gosec // until 2106
		transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, MaxIdleConnsPerHost: 100, DisableCompression: true,
		},
		changed: make(chan struct{}, 1),
	}
}

// Session is a session of the server under an id of the runner.
type Session struct {
	sessions *Sessions
	version  string

	opening sync.Mutex // held while the session is opened again

	mutex      sync.Mutex
	serverID   string
	initialize []byte
}

// name returns the id that the server has given the session.
func (s *Session) name() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.serverID
}

// reopen opens the session again, unless another request has done so since it had the given id.
func (s *Session) reopen(ctx context.Context, lost string) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.name() != lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.sessions.config.OpenTimeout)
	defer cancel()
	header, err := s.post(ctx, s.initialize, "")
	if err != nil {
		return fmt.Errorf("opening the session again: %w", err)
	}
	name := header.Get(legacy.SessionHeader)
	if name == "" {
		return errors.New("opening the session again: the server gives it no id")
	}
	if _, err := s.post(ctx, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), name); err != nil {
		return fmt.Errorf("opening the session again: %w", err)
	}
	s.mutex.Lock()
	s.serverID = name
	s.mutex.Unlock()
	s.sessions.config.Metrics.Recreated.Inc()
	return nil
}

// maxOpened is how much of the answer to initialize is read.
const maxOpened = 1 << 20

// post sends a message of the runner itself, and reads its answer.
func (s *Session) post(ctx context.Context, message []byte, name string) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.sessions.config.Target.String(), bytes.NewReader(message))
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	if name != "" {
		request.Header.Set(legacy.SessionHeader, name)
		request.Header.Set(legacy.VersionHeader, s.version)
	}
	response, err := s.sessions.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("the server answers with status %d", response.StatusCode)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxOpened)); err != nil {
		return nil, fmt.Errorf("reading the answer of the server: %w", err)
	}
	return response.Header, nil
}

// end ends the session of the server, in the background.
func (s *Session) end() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.sessions.config.OpenTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.sessions.config.Target.String(), nil)
		if err != nil {
			return
		}
		request.Header.Set(legacy.SessionHeader, s.name())
		request.Header.Set(legacy.VersionHeader, s.version)
		if response, err := s.sessions.transport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
		}
	}()
}

func (s *Sessions) newRecord() session.Record { return session.New(s.config.Ordinal, s.start) }

func (s *Sessions) reserve() (open func(string, *Session), release func(), err error) {
	if s.draining.Load() {
		return nil, nil, ErrDraining
	}
	if open, release, err = s.table.Reserve(); err != nil {
		s.config.Metrics.Refused.Inc()
	}
	return open, release, err //nolint:wrapcheck // says what is full
}

// Use returns a session. The session is in use until done is called, which must be done if the state is session.Live.
func (s *Sessions) Use(id string) (one *Session, done func(), state session.State) {
	one, release, state := s.table.Use(id)
	if state != session.Live {
		return nil, nil, state
	}
	return one, func() { release(); s.notify() }, session.Live
}

// State returns what this pod knows of a session.
func (s *Sessions) State(id string) session.State { return s.table.State(id) }

// forget remembers that a session has ended, which the server knows.
func (s *Sessions) forget(id string) { s.table.End(id) }

// End ends a session, and remembers that it has ended.
func (s *Sessions) End(id string) {
	if one, wasLive := s.table.End(id); wasLive {
		one.end()
	}
}

// Take opens a session that has lost its pod again. If several requests ask for it at the same time, it is opened once.
func (s *Sessions) Take(ctx context.Context, record session.Record) error {
	id := record.ID()
	result := s.taking.DoChan(id, func() (any, error) {
		switch s.table.State(id) {
		case session.Live:
			return nil, nil
		case session.Ended:
			return nil, ErrEnded
		case session.Absent:
		}
		open, release, err := s.reserve()
		if err != nil {
			return nil, err
		}
		defer release()
		initialize, err := session.Initialize(record)
		if err != nil {
			return nil, err //nolint:wrapcheck // says what failed
		}
		one := &Session{sessions: s, version: record.Version, initialize: initialize}
		if err := one.reopen(context.WithoutCancel(ctx), ""); err != nil {
			return nil, err
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
				one.end()
			}
		}
	}
}

// Drain takes no new sessions, and lets each session go that has no request in progress. When ctx ends, it lets all go. It returns when there are none.
func (s *Sessions) Drain(ctx context.Context) {
	s.draining.Store(true)
	for {
		s.table.DropUnused()
		if s.table.Len() == 0 {
			return
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			s.table.DropAll()
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
