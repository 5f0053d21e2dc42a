package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mcpserver-operator/runner/endpoint"
	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/modern"
	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/stdio"
)

// streamBytes is how many bytes of messages a stream keeps for a client that was disconnected.
const streamBytes = 1 << 20

// sendTimeout is how long a server may take to read a message.
const sendTimeout = 30 * time.Second

// runner is the runner of a stdio server.
type runner struct {
	config   config
	log      *slog.Logger
	metrics  *metrics.Set
	backend  *stdio.Backend
	sessions *stdio.Sessions
	shared   *stdio.Shared
	era      *modern.Era
}

func newRunner(c config, log *slog.Logger) (*runner, error) {
	r := &runner{config: c, log: log, era: modern.NewEra()}
	r.metrics = metrics.New(func() float64 { open, _, _ := r.sessions.Load(); return float64(open) })
	r.backend = stdio.New(stdio.Config{
		Process:      process.Config{Command: c.command, MaxLine: c.maxLine, Grace: c.grace, SendTimeout: sendTimeout},
		StreamBytes:  streamBytes,
		StartTimeout: c.startTimeout,
		Spare:        c.spare,
		Restart:      c.onPodLoss == recreate,
		Log:          log,
		Metrics:      r.metrics,
	})
	r.sessions = stdio.NewSessions(r.backend, c.ordinal, c.maxSessions, c.idleTimeout)
	r.shared = stdio.NewShared(r.backend, c.sharedProcesses)
	return r, nil
}

// handler serves clients.
func (r *runner) handler() http.Handler {
	front := &legacy.Front{Sessions: r.sessions, Limits: r.config.limits, Recreate: r.config.onPodLoss == recreate && r.config.service == "", Log: r.log}
	streamable := &endpoint.Endpoint{Limits: r.config.limits, Legacy: front, Modern: &modern.Front{
		Shared: r.shared, Limits: r.config.limits, Era: r.era, Log: r.log,
	}}
	mux := http.NewServeMux()
	mux.Handle("/", streamable)
	var audit *slog.Logger
	if r.config.audit {
		audit = r.log
	}
	return r.metrics.Handler(mux, audit)
}

// management serves Kubernetes, Prometheus and the other pods.
func (r *runner) management() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case r.sessions.IsDraining():
			http.Error(w, "the pod stops", http.StatusServiceUnavailable)
		case !r.era.IsKnown():
			http.Error(w, "the server has not answered yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// serve serves until stopping ends, and then drains.
func (r *runner) serve(stopping context.Context) error {
	defer r.backend.Close()
	failed := make(chan error, 2)
	var listen net.ListenConfig
	for address, handler := range map[string]http.Handler{r.config.listen: r.handler(), r.config.management: r.management()} {
		listener, err := listen.Listen(stopping, "tcp", address)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		server := limits.Server(handler)
		defer server.Close()
		go func() { failed <- server.Serve(listener) }()
		r.log.Info("listening", "address", listener.Addr().String())
	}
	idling, stop := context.WithCancel(context.Background())
	defer stop()
	go r.era.Find(idling, r.log, r.backend.Probe)
	if r.config.idleTimeout > 0 {
		go r.sessions.EndIdle(idling, min(r.config.idleTimeout/4, time.Minute))
	}
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-stopping.Done():
	}
	draining, cancel := context.WithTimeoutCause(context.Background(), r.config.drainTimeout, errors.New("the time for draining is over"))
	defer cancel()
	r.sessions.Drain(draining)
	return nil
}
