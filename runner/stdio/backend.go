// Package stdio serves sessions with a stdio server: one process for each session with state, and one process for all requests without sessions.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// Config says how sessions are run.
type Config struct {
	// Process says how to run a process. Stderr and TooLong are set by this package.
	Process process.Config
	// StreamBytes is how many bytes of events a stream keeps for clients that were disconnected.
	StreamBytes int
	// StartTimeout is how long a process may take to answer its first request.
	StartTimeout time.Duration
	// Spare is the number of processes that are started in advance. They hide a slow start of the server from the client.
	Spare int
	// Restart says whether a session whose process has ended gets a new one.
	Restart bool
	Log     *slog.Logger
	Metrics *metrics.Set
}

// Backend runs processes of a stdio server.
type Backend struct {
	config Config
	ctx    context.Context
	cancel context.CancelCauseFunc

	draining *session.Draining

	mutex    sync.Mutex
	all      map[*process.Process]bool
	spare    []*process.Process
	starting int
	closed   bool
	running  sync.WaitGroup
}

// ErrClosed is the error of a request after Close.
var ErrClosed = errors.New("the runner stops")

// New returns a backend. It starts no process before it is asked for one.
func New(config Config) *Backend {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Backend{config: config, ctx: ctx, cancel: cancel, draining: session.NewDraining(), all: map[*process.Process]bool{}}
}

// Close stops all processes and waits for their end.
func (b *Backend) Close() {
	b.cancel(ErrClosed)
	b.mutex.Lock()
	b.closed = true
	for p := range b.all {
		b.running.Go(p.Stop)
	}
	b.mutex.Unlock()
	b.running.Wait()
}

// start starts a process.
func (b *Backend) start(reason, name string) (*process.Process, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	config := b.config.Process
	config.Stderr = func(name string, line []byte) { b.config.Log.Info("server", "session", name, "stderr", string(line)) }
	config.TooLong = b.refuseLongLine
	p, err := process.Start(config)
	if err != nil {
		return nil, err
	}
	p.SetName(name)
	b.config.Metrics.Processes.WithLabelValues(reason).Inc()
	b.all[p] = true
	b.running.Go(func() {
		<-p.Done()
		b.mutex.Lock()
		defer b.mutex.Unlock()
		delete(b.all, p)
	})
	return p, nil
}

// refuseLongLine answers a request with an error if its response is too long: the client would wait for it for ever.
func (b *Backend) refuseLongLine(head, tail []byte) (instead []byte) {
	b.config.Metrics.Skipped.Inc()
	id := rpc.ResponseID(head, tail)
	if id == nil {
		return nil
	}
	text := fmt.Sprintf("the response of the server has more than %d bytes", b.config.Process.MaxLine)
	return rpc.Error(id, rpc.Unavailable, text, nil)
}

// take returns a process that has not been used, and starts the next spare one.
func (b *Backend) take(reason, name string) (*process.Process, error) {
	b.mutex.Lock()
	var p *process.Process
	for len(b.spare) > 0 && p == nil {
		p, b.spare = b.spare[0], b.spare[1:]
		select {
		case <-p.Done(): // it has ended while it waited
			p = nil
		default:
		}
	}
	b.mutex.Unlock()
	b.Prepare()
	if p != nil {
		p.SetName(name)
		return p, nil
	}
	return b.start(reason, name)
}

// Prepare starts the spare processes that are missing, in the background.
func (b *Backend) Prepare() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for missing := b.config.Spare - len(b.spare) - b.starting; missing > 0 && !b.closed && !b.draining.HasBegun(); missing-- {
		b.starting++
		b.running.Go(func() {
			p, err := b.start("session", "spare")
			b.mutex.Lock()
			defer b.mutex.Unlock()
			b.starting--
			switch {
			case err != nil:
				b.config.Log.Warn("a spare process cannot be started", "error", err)
			case b.closed: // which stops it
			default:
				b.spare = append(b.spare, p)
			}
		})
	}
}

// Open returns a session on a process that waits for the request initialize.
func (b *Backend) Open() (*Session, error) {
	s := newSession(b)
	if _, err := s.begin("session", true); err != nil {
		return nil, err
	}
	return s, nil
}

// Recreate returns a session on a new process, which is initialized with what the session id carries.
func (b *Backend) Recreate(ctx context.Context, record session.Record) (*Session, error) {
	s := newSession(b)
	s.SetID(record.ID())
	initialize, err := initializeFor(record)
	if err != nil {
		return nil, err
	}
	s.initialize = initialize
	if _, err := s.restart(ctx, initialize); err != nil {
		s.Close(session.ErrEnded)
		return nil, fmt.Errorf("recreating session %s: %w", session.Short(record.ID()), err)
	}
	return s, nil
}
