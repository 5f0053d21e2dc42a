package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"mcpserver-operator/runner/endpoint"
	"mcpserver-operator/runner/httpsse"
	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/modern"
	"mcpserver-operator/runner/stdio"
	"mcpserver-operator/runner/upstream"
)

const (
	// streamBytes is how many bytes of messages a stream keeps for a client that was disconnected.
	streamBytes = 1 << 20
	ssePath     = "/sse"
	messagePath = "/messages"
)

// newServer returns the server that the configuration names.
func newServer(r *runner) (server, error) {
	if len(r.config.command) > 0 {
		return newStdioServer(r), nil
	}
	target, err := url.Parse(r.config.upstream)
	if err != nil {
		return nil, fmt.Errorf("reading --upstream: %w", err)
	}
	if target.Host == "" {
		return nil, fmt.Errorf("--upstream must be a URL with a host, not %q", r.config.upstream)
	}
	return &httpServer{runner: r, Sessions: upstream.NewSessions(upstream.Config{
		Target: target, Ordinal: r.config.ordinal, Most: r.config.maxSessions, Idle: r.config.idleTimeout, OpenTimeout: r.config.startTimeout,
		Metrics: r.metrics,
	})}, nil
}

// stdioServer is a server that the runner starts.
type stdioServer struct {
	*stdio.Sessions
	runner  *runner
	backend *stdio.Backend
	shared  *stdio.Shared
	era     *modern.Era
}

func newStdioServer(r *runner) *stdioServer {
	c := r.config
	backend := stdio.New(stdio.Config{
		Process: c.processConfig(), StreamBytes: streamBytes, StartTimeout: c.startTimeout, Spare: c.spare, Restart: c.onPodLoss == recreate,
		Log: r.log, Metrics: r.metrics,
	})
	return &stdioServer{
		Sessions: stdio.NewSessions(backend, c.ordinal, c.maxSessions, c.idleTimeout), runner: r, backend: backend,
		shared: stdio.NewShared(backend, c.sharedProcesses), era: modern.NewEra(),
	}
}

// Handler implements server.
func (s *stdioServer) Handler() http.Handler {
	c, log := s.runner.config, s.runner.log
	mux := http.NewServeMux()
	mux.Handle("/", &endpoint.Endpoint{
		Limits: c.limits,
		Legacy: &legacy.Front{Sessions: s.Sessions, Limits: c.limits, Recreate: c.onPodLoss == recreate && c.isAlone(), Log: log},
		Modern: &modern.Front{Shared: s.shared, Limits: c.limits, Era: s.era, Log: log},
	})
	if c.sse {
		sse := &httpsse.Front{Sessions: s.Sessions, Limits: c.limits, Log: log}
		mux.HandleFunc("GET "+ssePath, sse.Stream)
		mux.HandleFunc("POST "+messagePath, sse.Message)
	}
	return mux
}

// Run implements server.
func (s *stdioServer) Run(ctx context.Context) {
	go s.era.Find(ctx, s.runner.log, s.backend.Probe)
	if idle := s.runner.config.idleTimeout; idle > 0 {
		s.EndIdle(ctx, checkEvery(idle))
	}
}

// checkEvery returns the time between two searches for idle sessions.
func checkEvery(idle time.Duration) time.Duration {
	return max(10*time.Millisecond, min(idle/4, time.Minute))
}

var errNoAnswer = errors.New("the server has not answered yet")

// Ready implements server.
func (s *stdioServer) Ready(context.Context) error {
	if !s.era.IsKnown() {
		return errNoAnswer
	}
	return nil
}

// Drain implements server.
func (s *stdioServer) Drain(ctx context.Context) { s.Sessions.Drain(ctx, s.shared) }

// Close implements server.
func (s *stdioServer) Close() { s.backend.Close() }

// httpServer is a server that listens on a port of the pod.
type httpServer struct {
	*upstream.Sessions
	runner *runner
}

// Handler implements server.
func (s *httpServer) Handler() http.Handler {
	c := s.runner.config
	return &upstream.Front{
		Limits: c.limits, Sessions: s.Sessions, Recreate: c.onPodLoss == recreate, TakeAbsent: c.onPodLoss == recreate && c.isAlone(),
		StreamPath: c.streamPath(), Log: s.runner.log,
	}
}

// Run implements server.
func (s *httpServer) Run(ctx context.Context) {
	if idle := s.runner.config.idleTimeout; idle > 0 {
		s.EndIdle(ctx, checkEvery(idle))
	}
}

// Drain implements server.
func (s *httpServer) Drain(ctx context.Context) { s.Sessions.Drain(ctx) }

// streamPath returns the path at which GET opens a session of HTTP+SSE; empty if there is none.
func (c config) streamPath() string {
	if c.sse {
		return ssePath
	}
	return ""
}
