// Package peers makes the pods of a StatefulSet one MCP server. Each request of a session reaches the pod that has the session; if that pod is lost, the
// remaining pods agree on the one that takes the session. They find each other in DNS and need no other service.
package peers

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// Local are the sessions of this pod.
type Local interface {
	// State returns what this pod knows of a session.
	State(id string) session.State
	// Hold is State, and keeps a session that is live with this pod until release is called, also if the pod drains.
	Hold(id string) (release func(), state session.State)
	// Take recreates a session that lost its pod. Concurrent calls for the same session recreate it once. It fails with an error that wraps
	// session.ErrFull if there is no place.
	Take(ctx context.Context, record session.Record) error
	// End ends a session, if this pod has it, and remembers that it has ended.
	End(id string)
	// Ended returns the sessions that have ended.
	Ended() []string
	// Drop lets a session go that another pod has taken, if this pod has it, without remembering it.
	Drop(id string)
	// Load returns the number of sessions, the most that there may be, and whether this pod takes new sessions. A pod that drains, or whose server is not
	// ready, does not.
	Load() (sessions, most int, isAccepting bool)
}

// Config is the configuration of a router.
type Config struct {
	// Set is the name of the StatefulSet. It distinguishes the pods from those of other servers. Defaults to what the Resolver knows, if it is DNS.
	Set string
	// Namespace is the namespace of the pods. Defaults to what the Resolver knows, if it is DNS; empty if it is not known.
	Namespace string
	// Ordinal is the ordinal of this pod.
	Ordinal uint16
	// Local are the sessions of this pod.
	Local Local
	// Handler serves the requests for this pod.
	Handler http.Handler
	// Resolver finds the other pods.
	Resolver Resolver
	// Recreate is true if a session outlives its pod. Otherwise, it ends with its pod, and the client gets status 404.
	Recreate bool
	// StreamPath is the path at which GET opens a session of HTTP+SSE, for example /sse; empty if there is none.
	StreamPath string
	// Limits are the limits of requests. The router reads the body of a request before it forwards the request.
	Limits limits.Limits
	// Idle is how long a connection to another pod is kept without a request. It must be shorter than the time for which a pod that drains still answers: a
	// request on a connection that the other end closes may have been carried out or not. Defaults to 5 seconds.
	Idle time.Duration
	// OnFull is called for each new session that is refused because no pod has room. Optional.
	OnFull func()
	Log    *slog.Logger
	// Registerer registers the metrics; if nil, they are not registered.
	Registerer prometheus.Registerer
}

// Router is an HTTP handler in front of the sessions of this pod. Close must be called when it is not needed any more.
type Router struct {
	config  Config
	metrics routerMetrics
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	members *members
	// suspects are the pods that did not answer a short time ago.
	suspects *recent
	// leaving are the pods that stop. A request goes to such a pod only if that pod says that it has the session: it could close the connection just then.
	leaving    *recent
	locations  *locations
	claims     *claims
	balance    *balance
	notices    *notices
	asking     *http.Transport // to the management ports
	forwarding *http.Transport
	proxy      *httputil.ReverseProxy
	learned    chan struct{} // closed when this pod knows which sessions have ended
	locating   singleflight.Group
	taking     singleflight.Group
}

type routerMetrics struct {
	Forwarded *prometheus.CounterVec
	Failed    prometheus.Counter
}

// New returns a router.
func New(config Config) *Router {
	if dns, is := config.Resolver.(*DNS); is && config.Set == "" {
		config.Set, config.Namespace = dns.service+"/"+dns.name, dns.namespace
	}
	if config.Idle == 0 {
		config.Idle = defaultIdle
	}
	if config.OnFull == nil {
		config.OnFull = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Router{
		config: config, ctx: ctx, cancel: cancel, learned: make(chan struct{}),
		suspects:   newRecent(suspectAge),
		leaving:    newRecent(leavingAge),
		locations:  newLocations(),
		claims:     &claims{byID: map[string]*claim{}},
		balance:    &balance{loads: map[uint16]load{}},
		asking:     newTransport(config.Idle, 4),
		forwarding: newTransport(config.Idle, 64),
		metrics: routerMetrics{
			Forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
				Namespace: "mcp_runner", Name: "forwarded_total",
				Help: "Requests that another pod has answered, by reason: session, new (a new session), take (a session that lost its pod).",
			}, []string{"reason"}),
			Failed: prometheus.NewCounter(prometheus.CounterOpts{
				Namespace: "mcp_runner", Name: "forward_failures_total", Help: "Attempts to forward a request to a pod that failed.",
			}),
		},
	}
	r.members = &members{ctx: ctx, resolver: config.Resolver, self: config.Ordinal, newcomers: map[uint16]time.Time{}, report: func(err error) { config.Log.Warn("the list of pods is old", "error", err) }}
	r.notices = &notices{router: r, pending: map[notice]time.Time{}}
	r.proxy = r.newProxy()
	if config.Registerer != nil {
		config.Registerer.MustRegister(r.metrics.Forwarded, r.metrics.Failed)
	}
	r.running.Go(r.learn)
	return r
}

// Close stops what the router does in the background. Requests in progress are not interrupted.
func (r *Router) Close() {
	r.cancel()
	r.running.Wait()
	r.asking.CloseIdleConnections()
	r.forwarding.CloseIdleConnections()
}

// ServeHTTP serves a request of a client, or of a pod that has forwarded it.
func (r *Router) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	c := &call{w: w, r: request}
	if !legacy.CheckOrigin(w, request, r.config.Limits) {
		return
	}
	if request.Header.Get(ForwardedHeader) != "" {
		target := request.Header.Get(TargetHeader)
		if !r.isOfNamespace(request.Header) || (target != "" && target != r.nameOf(r.config.Ordinal)) {
			c.refuseAbsent()
			return
		}
		w.Header().Set(PodHeader, r.nameOf(r.config.Ordinal))
		w.Header().Set(NamespaceHeader, r.config.Namespace)
	}
	id := request.Header.Get(legacy.SessionHeader)
	if id == "" && r.config.StreamPath != "" {
		id = request.URL.Query().Get(legacy.SessionParameter)
	}
	switch {
	case request.Header.Get(legacy.VersionHeader) >= rpc.Modern: // without sessions: each pod serves it
		r.config.Handler.ServeHTTP(w, request)
	case id != "":
		metrics.RequestOf(request.Context()).SetSession(id)
		r.serveSession(c, id)
	case request.Method == http.MethodPost:
		if !c.read(r.config.Limits) {
			return
		}
		if !isInitialize(c.body) {
			r.config.Handler.ServeHTTP(w, c.local())
			return
		}
		r.open(c)
	case request.Method == http.MethodGet && r.config.StreamPath != "" && request.URL.Path == r.config.StreamPath:
		r.open(c)
	default: // the front knows the answer
		r.config.Handler.ServeHTTP(w, request)
	}
}

func isInitialize(body []byte) bool {
	messages, isBatch, err := rpc.ParseBody(body)
	return err == nil && !isBatch && messages[0].Kind == rpc.Request && messages[0].Method == "initialize"
}

// serveHere lets this pod serve a request. After the end of a session, the other pods must know it before the client does: a request could reach any of them.
func (r *Router) serveHere(c *call) {
	r.config.Handler.ServeHTTP(c.w, c.local())
	if c.id != "" && c.r.Method == http.MethodDelete && r.config.Local.State(c.id) == session.Ended {
		r.tellEnded(c.r.Context(), c.id)
	}
}

// serveIfHere lets this pod serve a request of a session that it has, or that it knows to have ended. A pod that drains must not let the session go between
// the decision and the request, or the client would have to try again. A stream of GET does not hold the session: it has no end.
func (r *Router) serveIfHere(c *call) (isDone bool) {
	release, state := r.config.Local.Hold(c.id)
	switch state {
	case session.Live:
		if c.r.Method == http.MethodGet {
			release()
		} else {
			defer release()
		}
		r.serveHere(c)
		return true
	case session.Ended:
		c.refuseNotFound()
		return true
	case session.Absent:
	}
	return false
}

// serveSession serves a request of a session.
func (r *Router) serveSession(c *call, id string) {
	record, err := session.Parse(id)
	if err != nil {
		c.refuseNotFound()
		return
	}
	c.id, c.record = id, record
	isForwarded := c.r.Header.Get(ForwardedHeader) != ""
	if r.serveIfHere(c) {
		return
	}
	// An answer before the end of the body would look like a lost connection to the pod that sends it.
	if isForwarded && !c.read(r.config.Limits) {
		return
	}
	switch {
	case r.claims.phaseOf(id) == committed:
		r.serveTaken(c, r.take(c))
	case !isForwarded:
		r.route(c)
	case asksToTake(c.r) && r.config.Recreate && record.Version != "":
		r.serveTaken(c, r.take(c))
	default:
		c.refuseAbsent()
	}
}

// serveTaken serves a request that another pod has forwarded, after the attempt to recreate its session.
func (r *Router) serveTaken(c *call, result taken) {
	switch result.kind {
	case takenHere, takenElsewhere, takenNowhere:
		if result.kind == takenHere && r.serveIfHere(c) {
			return
		}
		if c.r.Header.Get(ForwardedHeader) != "" {
			c.refuseAbsent() // that pod looks for it
			return
		}
		r.route(c)
	case takenEnded:
		c.refuseNotFound()
	case takenFailed:
		r.refuseFailed(c, result.err)
	}
}

func (r *Router) refuseFailed(c *call, err error) {
	if c.r.Context().Err() != nil {
		return // the client is gone
	}
	r.config.Log.Warn("a session that lost its pod cannot be recreated", "session", session.Short(c.id), "error", err)
	c.refuse(http.StatusBadGateway, rpc.Unavailable, "the session lost its pod and cannot be recreated: "+err.Error())
}

const (
	// mostRounds is how often a request looks for a session that moves while it looks.
	mostRounds = 5
	// roundInterval is the time before the second look. It is longer before each other one.
	roundInterval = 20 * time.Millisecond
)

// route serves a request of a session that this pod does not have.
func (r *Router) route(c *call) {
	if ordinal, isKnown := r.locations.get(c.id); isKnown && !r.leaving.has(ordinal) {
		if r.forwardAndRemember(c, ordinal, false) {
			return
		}
		if ordinal != c.record.Ordinal && r.routeToOpener(c) {
			return
		}
	} else if r.routeToOpener(c) {
		return
	}
	for round := range mostRounds {
		if !c.wait(time.Duration(round) * roundInterval) {
			return
		}
		place := r.locate(c)
		switch place.kind {
		case placeUnknown: // the client is gone
			return
		case placeEnded:
			r.end(c.id)
			c.refuseNotFound()
			return
		case placePeer:
			if r.forwardAndRemember(c, place.ordinal, place.isClaimed) {
				return
			}
		case placeSilent:
			c.refuse(http.StatusServiceUnavailable, rpc.Unavailable, "it is not known yet which pod has the session: try again")
			return
		case placeNone:
			if r.recreate(c, place.candidates) {
				return
			}
		}
		if r.serveIfHere(c) { // another pod let this one take it
			return
		}
	}
	c.refuse(http.StatusServiceUnavailable, rpc.Unavailable, "the session moves between pods: try again")
}

// routeToOpener forwards a request to the pod that opened the session, which mostly still has it.
func (r *Router) routeToOpener(c *call) (isDone bool) {
	opener := c.record.Ordinal
	return opener != r.config.Ordinal && !r.leaving.has(opener) && r.forwardAndRemember(c, c.record.Ordinal, false)
}

func (r *Router) forwardAndRemember(c *call, ordinal uint16, take bool) (isDone bool) {
	if ordinal != c.record.Ordinal {
		r.locations.set(c.id, ordinal)
	}
	if r.forward(c, ordinal, take) == done {
		return true
	}
	r.locations.forget(c.id)
	return false
}

// recreate recreates a session that no pod has, on the first of the candidates that can do it. It returns false if the session is somewhere by now.
func (r *Router) recreate(c *call, candidates []uint16) (isDone bool) {
	if !r.config.Recreate || c.record.Version == "" { // a session of HTTP+SSE ends with its stream
		c.refuseNotFound()
		return true
	}
	if c.r.Method == http.MethodDelete { // nobody has it: it suffices that nobody recreates it
		r.end(c.id)
		r.tellEnded(c.r.Context(), c.id)
		c.w.WriteHeader(http.StatusNoContent)
		return true
	}
	for _, ordinal := range rank(c.id, candidates) {
		if ordinal != r.config.Ordinal {
			if r.forwardAndRemember(c, ordinal, true) {
				return true
			}
			continue
		}
		switch result := r.take(c); result.kind {
		case takenHere:
			return r.serveIfHere(c)
		case takenElsewhere:
			return false
		case takenEnded:
			c.refuseNotFound()
			return true
		case takenFailed:
			r.refuseFailed(c, result.err)
			return true
		case takenNowhere: // this pod is full: the next
		}
	}
	if len(candidates) == 0 {
		c.refuseFull()
		return true
	}
	return false
}

func (r *Router) load() load {
	sessions, most, isAccepting := r.config.Local.Load()
	return load{Sessions: sessions, Max: most, Accepting: isAccepting}
}
