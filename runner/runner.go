package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/peers"
	"mcpserver-operator/runner/process"
)

// sendTimeout is how long a server may take to read a message.
const sendTimeout = 30 * time.Second

// flushTimeout is the default of runner.flush.
const flushTimeout = 2 * time.Second

// runner stands in front of one server.
type runner struct {
	config  config
	log     *slog.Logger
	metrics *metrics.Set
	server  server
	// resolver finds the other pods; nil if DNS does.
	resolver peers.Resolver
	// hasLearned reports whether the pod knows what the other pods know; nil if it is alone.
	hasLearned func() bool
	// leave tells the other pods that this pod stops; nil if it is alone.
	leave func(context.Context)
	// flush is how long the last pieces of responses may take after the sessions have ended.
	flush time.Duration
	// isDraining is true from SIGTERM.
	isDraining atomic.Bool
}

// server is the MCP server of the pod, with its sessions.
type server interface {
	peers.Local
	// Handler serves clients.
	Handler() http.Handler
	// Run does the work in the background until ctx ends: it finds out whether the server answers, and ends idle sessions.
	Run(ctx context.Context)
	// Ready returns why the server cannot be used; nil if it can.
	Ready(ctx context.Context) error
	// Drain lets all sessions go, those with requests in progress after these have ended or when ctx ends.
	Drain(ctx context.Context)
	// Close ends what is left.
	Close()
}

// local is the server as the router of the pods sees it.
type local struct {
	server
	runner *runner
}

// Load implements peers.Local. A pod whose server is not ready accepts no sessions of other pods.
func (l local) Load() (open, most int, isAccepting bool) {
	open, most, isAccepting = l.server.Load()
	return open, most, isAccepting && !l.runner.isDraining.Load() && l.Ready(context.Background()) == nil
}

func newRunner(c config, log *slog.Logger) (*runner, error) {
	r := &runner{config: c, log: log, flush: flushTimeout}
	r.metrics = metrics.New(func() float64 { open, _, _ := r.server.Load(); return float64(open) })
	server, err := newServer(r)
	if err != nil {
		return nil, err
	}
	r.server = server
	return r, nil
}

// handlers returns the handlers for clients and for the management port.
func (r *runner) handlers() (clients, management http.Handler, closeAll func(), err error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", r.readyz)
	var audit *metrics.Audit
	if r.config.audit {
		audit = &metrics.Audit{Log: r.log, Arguments: r.config.auditArguments, Results: r.config.auditResults}
	}
	if r.config.service == "" && r.config.peers == nil {
		return r.metrics.Handler(r.closing(r.server.Handler()), audit), mux, func() {}, nil
	}
	resolver := r.resolver
	if resolver == nil && r.config.peers != nil {
		resolver = r.config.peers
	}
	if resolver == nil {
		if resolver, err = peers.NewDNS(r.config.pod, r.config.service, r.config.listen, r.config.management); err != nil {
			return nil, nil, nil, fmt.Errorf("finding the other pods: %w", err)
		}
	}
	router := peers.New(peers.Config{
		Ordinal: r.config.ordinal, Local: local{r.server, r}, Handler: r.server.Handler(), Resolver: resolver, Recreate: r.config.onPodLoss == recreate,
		StreamPath: r.config.streamPath(), Limits: r.config.limits, Idle: r.config.lastRequests() / 2, OnFull: r.metrics.Refused.Inc, Log: r.log, Registerer: r.metrics.Registry,
	})
	r.hasLearned, r.leave = router.HasLearned, router.Leave
	mux.Handle("/sessions", router.Management())
	mux.Handle("/sessions/", router.Management())
	return r.metrics.Handler(r.closing(router), audit), mux, router.Close, nil
}

// closing lets no connection be used again while the pod drains.
func (r *runner) closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.isDraining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, request)
	})
}

func (r *runner) readyz(w http.ResponseWriter, request *http.Request) {
	if err := r.ready(request.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// ready returns why the pod cannot be used; nil if it can.
func (r *runner) ready(ctx context.Context) error {
	switch {
	case r.isDraining.Load():
		return errors.New("the pod stops")
	case r.hasLearned != nil && !r.hasLearned():
		return errors.New("the other pods have not answered yet")
	default:
		return r.server.Ready(ctx)
	}
}

// serve serves until stopping ends, and then drains.
func (r *runner) serve(stopping context.Context) error {
	defer r.server.Close()
	clients, management, closeAll, err := r.handlers()
	if err != nil {
		return err
	}
	defer closeAll()
	failed := make(chan error, 2)
	var servers []*http.Server
	for _, one := range []struct {
		name, address string
		handler       http.Handler
	}{{"clients", r.config.listen, clients}, {"management", r.config.management, management}} {
		listener, err := new(net.ListenConfig).Listen(stopping, "tcp", one.address)
		if err != nil {
			return fmt.Errorf("listening for %s: %w", one.name, err)
		}
		server := limits.Server(one.handler)
		defer server.Close()
		servers = append(servers, server)
		go func() { failed <- server.Serve(listener) }()
		r.log.Info("listening", "for", one.name, "address", listener.Addr().String())
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	go r.server.Run(running)
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-stopping.Done():
	}
	stop()
	r.drain(servers)
	return nil
}

// drain ends what is in progress. http.Server.Shutdown alone would wait for streams that have no end.
func (r *runner) drain(servers []*http.Server) {
	r.log.Info("draining", "within", r.config.drainTimeout.String())
	r.isDraining.Store(true)
	ctx, cancel := context.WithTimeoutCause(context.Background(), r.config.drainTimeout, errors.New("the time for draining is over"))
	defer cancel()
	// Requests still come until all nodes have heard that this pod is not ready.
	delay, endDelay := context.WithTimeout(ctx, r.config.drainDelay)
	defer endDelay()
	if r.leave != nil {
		r.leave(ctx)
	}
	r.server.Drain(ctx)
	// The connections of the last calls may get another request, which finds its session elsewhere.
	last, endLast := context.WithTimeout(ctx, r.config.lastRequests())
	defer endLast()
	<-last.Done()
	<-delay.Done()
	flushing, end := context.WithTimeout(context.Background(), r.flush)
	defer end()
	for _, server := range servers {
		if err := server.Shutdown(flushing); err != nil {
			r.log.Warn("connections are cut", "error", err)
		}
	}
}

// lastRequests returns how long a pod that drains still answers after the last call has ended. The other pods close connections to it that have no request
// for half as long.
func (c config) lastRequests() time.Duration { return c.drainDelay * 2 / 3 }

// processConfig returns how the processes of a stdio server run.
func (c config) processConfig() process.Config {
	return process.Config{Command: c.command, MaxLine: c.maxLine, Grace: c.grace, SendTimeout: sendTimeout}
}
