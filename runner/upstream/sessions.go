package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/session"
)

// Config says how sessions are run.
type Config struct {
	// Target is the URL of the server. Clients choose the path of their requests; the path of Target is that of the requests of the runner itself, if no
	// client has used another. Defaults to /mcp. The server gets the header Host of Target, because many servers that listen on the loopback interface allow
	// no other (DNS rebinding); X-Forwarded-Host has that of the client.
	Target *url.URL
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
	*session.Sessions[*Session]
	config    Config
	draining  *session.Draining
	transport *http.Transport
	readiness readiness
	running   sync.WaitGroup
}

// NewSessions returns the sessions of a pod.
func NewSessions(config Config) *Sessions {
	if config.Wait == 0 {
		config.Wait = defaultWait
	}
	draining := session.NewDraining()
	return &Sessions{
		config: config, draining: draining,
		Sessions: session.NewSessions(session.Config[*Session]{
			Ordinal: config.Ordinal, Most: config.Most, Idle: config.Idle, Draining: draining, OnFull: config.Metrics.Refused.Inc,
		}),
		transport: relay.NewTransport(relay.Options{Dial: dialTimeout, Silent: silentTimeout, Idle: idleTimeout, Conns: 100}),
	}
}

// Close waits until the server knows which sessions have ended, for at most a few seconds.
func (s *Sessions) Close() {
	s.running.Wait()
	s.transport.CloseIdleConnections()
}

// use returns a session. If keep is true, it is in use, and so not idle, until done is called.
func (s *Sessions) use(id string, keep bool) (one *Session, done func(), state session.State) {
	if !keep {
		one, state = s.Peek(id)
		return one, func() {}, state
	}
	return s.Use(id)
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

// forget remembers that a session has ended. The server knows it already.
func (s *Sessions) forget(id string) {
	if one, wasLive := s.Forget(id); wasLive {
		one.cancel(session.ErrEnded)
	}
}

// Take takes a session that has lost its pod. Its first request opens a session of the server, because that request has the credentials of the client.
func (s *Sessions) Take(_ context.Context, record session.Record) error {
	id := record.ID()
	switch s.State(id) {
	case session.Live:
		return nil
	case session.Ended:
		return session.ErrEnded
	case session.Absent:
	}
	initialize, err := session.Initialize(record)
	if err != nil {
		return err
	}
	open, release, err := s.Reserve()
	if err != nil {
		return err
	}
	defer release()
	one := newSession(s, record.Version)
	one.initialize = initialize
	open(id, one)
	return nil
}
