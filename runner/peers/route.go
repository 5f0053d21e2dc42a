package peers

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// Router is an HTTP handler in front of that of this pod. A request of a session of another pod goes to that pod.
type Router struct {
	config    Config
	members   *members
	loads     loads
	places    locations
	transport *http.Transport
}

// New returns a router. Close closes its connections to other pods.
func New(config Config) *Router {
	return &Router{config: config, members: &members{self: config.Ordinal, resolver: config.Resolver, now: time.Now}, transport: newTransport()}
}

// Close closes the idle connections to other pods.
func (r *Router) Close() { r.transport.CloseIdleConnections() }

// ServeHTTP serves a request here or forwards it.
func (r *Router) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	id := sessionID(request)
	switch {
	case request.Header.Get(forwardedHeader) != "":
		r.serveForwarded(w, request, id)
	case id != "":
		r.serveSession(w, request, id)
	default:
		r.serveNew(w, request)
	}
}

// sessionID returns the session id of a request: in a header, or in the query of a request of the transport HTTP+SSE. Empty if it has none.
func sessionID(request *http.Request) string {
	if id := request.Header.Get(legacy.SessionHeader); id != "" {
		return id
	}
	return request.URL.Query().Get("sessionId")
}

// serveHere serves a request in this pod. The other pods learn of a session that the client has ended.
func (r *Router) serveHere(w http.ResponseWriter, request *http.Request, id string) {
	r.config.Handler.ServeHTTP(w, request)
	if request.Method == http.MethodDelete && id != "" && r.config.Local.State(id) == session.Ended {
		r.tellEnded(request.Context(), id)
	}
}

// serveForwarded serves a request that another pod has forwarded. It is not forwarded again: two pods with different lists of the others would send it to
// and fro.
func (r *Router) serveForwarded(w http.ResponseWriter, request *http.Request, id string) {
	if id == "" {
		if open, most, isAccepting := r.config.Local.Load(); !isAccepting || open >= most {
			refuseAbsent(w)
			return
		}
		r.serveHere(w, request, id)
		return
	}
	if r.config.Local.State(id) == session.Absent {
		record, err := session.Parse(id)
		if err != nil || request.Header.Get(takeHeader) == "" || !r.config.Recreate || r.take(request.Context(), record) != nil {
			refuseAbsent(w)
			return
		}
	}
	r.serveHere(w, request, id)
}

func refuseAbsent(w http.ResponseWriter) {
	w.Header().Set(absentHeader, "true")
	legacy.Refuse(w, http.StatusMisdirectedRequest, nil, rpc.SessionNotFound, "this pod has not the session", nil)
}

func (r *Router) take(ctx context.Context, record session.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTimeout) // other requests wait for it as well
	defer cancel()
	return r.config.Local.Take(ctx, record) //nolint:wrapcheck // only compared with nil
}

// serveNew serves a request without a session. If it opens one, the pod with a place gets it.
func (r *Router) serveNew(w http.ResponseWriter, request *http.Request) {
	kept, err := read(request, r.config.MaxBody)
	if err != nil || !opensSession(request, kept.content) {
		r.serveHere(w, request, "") // it refuses a body that is too long
		return
	}
	for range maxTries {
		ordinal, found := r.placeFor(request.Context())
		if !found {
			break
		}
		if ordinal == r.config.Ordinal {
			r.serveHere(w, request, "")
			return
		}
		peer, isUp := r.members.find(request.Context(), ordinal)
		if isUp && r.forward(w, request, kept, peer, false) == answered {
			return
		}
		kept.rewind(request)
		r.isFull(ordinal)
	}
	w.Header().Set("Retry-After", "5")
	legacy.Refuse(w, http.StatusServiceUnavailable, nil, rpc.Unavailable, "all pods have as many sessions as they may have, or stop", nil)
}

// opensSession reports whether a request without a session id opens a session.
func opensSession(request *http.Request, content []byte) bool {
	if request.Method == http.MethodGet {
		return strings.HasSuffix(request.URL.Path, "/sse")
	}
	if request.Method != http.MethodPost {
		return false
	}
	message, err := rpc.Parse(content)
	return err == nil && message.Kind == rpc.Request && message.Method == "initialize"
}

// maxTries is how often a request is sent to a pod that turns out not to have the session.
const maxTries = 4

// serveSession serves a request of a session where the session is.
func (r *Router) serveSession(w http.ResponseWriter, request *http.Request, id string) {
	record, err := session.Parse(id)
	if err != nil || r.config.Local.State(id) != session.Absent {
		r.serveHere(w, request, id) // it answers 404 to an id that is none
		return
	}
	kept, err := read(request, r.config.MaxBody)
	if err != nil {
		r.serveHere(w, request, id)
		return
	}
	ctx := request.Context()
	tried := map[uint16]bool{}
	for _, ordinal := range r.likely(id, record) {
		peer, isUp := r.members.find(ctx, ordinal)
		if !isUp || tried[ordinal] {
			continue
		}
		tried[ordinal] = true
		if r.forward(w, request, kept, peer, false) == answered {
			r.places.remember(id, ordinal)
			return
		}
		kept.rewind(request)
		r.places.forget(id)
	}
	for range maxTries {
		where, found := r.locate(ctx, id, record.Ordinal)
		switch {
		case !found.isKnown:
			w.Header().Set("Retry-After", "1")
			legacy.Refuse(w, http.StatusServiceUnavailable, nil, rpc.Unavailable, "no pod can take the session now", nil)
			return
		case found.hasEnded:
			r.config.Local.End(id)
			r.serveHere(w, request, id)
			return
		case where == r.config.Ordinal:
			if found.take && r.take(ctx, record) != nil {
				w.Header().Set("Retry-After", "1")
				legacy.Refuse(w, http.StatusServiceUnavailable, nil, rpc.Unavailable, "the session cannot be started again now", nil)
				return
			}
			r.serveHere(w, request, id)
			return
		}
		peer, isUp := r.members.find(ctx, where)
		if isUp && r.forward(w, request, kept, peer, found.take) == answered {
			r.places.remember(id, where)
			return
		}
		kept.rewind(request)
	}
	w.Header().Set("Retry-After", "1")
	legacy.Refuse(w, http.StatusServiceUnavailable, nil, rpc.Unavailable, "the pod that has the session cannot be reached", nil)
}

// likely returns the pods that have a session unless something has happened: where it was last, and where it was opened.
func (r *Router) likely(id string, record session.Record) []uint16 {
	var all []uint16
	if ordinal, found := r.places.find(id); found {
		all = append(all, ordinal)
	}
	if record.Ordinal != r.config.Ordinal {
		all = append(all, record.Ordinal)
	}
	return all
}

// location is what the pods say of a session.
type location struct {
	// isKnown is false if no pod has the session and none can take it.
	isKnown bool
	// hasEnded is true if the session has ended, or has lost its pod and is not started again.
	hasEnded bool
	// take is true if the pod has yet to start the session.
	take bool
}

// locate asks all pods about a session, and decides which pod takes it if none has it.
func (r *Router) locate(ctx context.Context, id string, owner uint16) (uint16, location) {
	answers := r.ask(ctx, r.members.up(ctx), id)
	answers[r.config.Ordinal] = r.answer(id)
	var candidates []uint16
	for _, ordinal := range slices.Sorted(maps.Keys(answers)) {
		switch one := answers[ordinal]; {
		case one.State == live:
			return ordinal, location{isKnown: true}
		case one.State == ended:
			return 0, location{isKnown: true, hasEnded: true}
		case one.Accepting:
			candidates = append(candidates, ordinal)
		}
	}
	if !r.config.Recreate {
		_, hasAnswered := answers[owner]
		isListed := slices.ContainsFunc(r.members.all(ctx), func(p Peer) bool { return p.Ordinal == owner })
		return 0, location{isKnown: hasAnswered || !isListed, hasEnded: true} // a pod that does not answer may still have it
	}
	if ctx.Err() != nil || len(candidates) == 0 {
		return 0, location{}
	}
	return winner(id, candidates), location{isKnown: true, take: true}
}
