// Package upstream serves sessions of an HTTP server behind the runner. The session id of the client is that of the runner. The id of the server is kept
// beside it and replaced in requests and responses, so that the runner can open another session of the server under the same id.
package upstream

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/modern"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// internalHeader is how the names of the headers between runners begin.
const internalHeader = "Mcp-Runner-"

// Front is the HTTP handler for clients.
type Front struct {
	Limits   limits.Limits
	Sessions *Sessions
	// Recreate says whether a session that the server has lost is opened again.
	Recreate bool
	// TakeAbsent is true if this front itself takes sessions that this pod does not have. With several pods, the router decides which pod does.
	TakeAbsent bool
	// StreamPath is the path at which GET opens a session of HTTP+SSE, for example /sse; empty if the server does not have this transport.
	StreamPath string
	// Log gets what the client cannot be told. It may be nil.
	Log *slog.Logger
}

// ServeHTTP passes a request to the server. Requests without a session, which include all of the protocol version 2026-07-28, pass through unchanged.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{front: f, w: relay.LimitWrites(w, f.Limits.Write), r: r}
	if !legacy.CheckOrigin(c.w, r, f.Limits) || !c.read() {
		return
	}
	id, ofStream := r.Header.Get(legacy.SessionHeader), ""
	if id == "" && f.StreamPath != "" {
		ofStream = r.URL.Query().Get(legacy.SessionParameter)
	}
	switch {
	case ofStream != "": // also initialize, because the stream has opened the session
		c.inSession(ofStream)
	case r.Header.Get(legacy.VersionHeader) >= rpc.Modern, modern.Is("", c.message):
		c.pass(nil)
	case c.message.Kind == rpc.Request && c.message.Method == "initialize":
		c.initialize()
	case id != "":
		c.inSession(id)
	case r.Method == http.MethodGet && f.StreamPath != "" && r.URL.Path == f.StreamPath:
		c.openStream()
	default:
		c.pass(nil)
	}
}

// call is a request on its way to the server.
type call struct {
	front   *Front
	w       http.ResponseWriter
	r       *http.Request
	body    []byte
	message rpc.Message   // the first one; empty if the body is none
	all     []rpc.Message // of a batch
	session *Session      // nil if there is none
}

// read reads the body of a POST. If it fails, it has answered the client.
func (c *call) read() bool {
	if c.r.Method != http.MethodPost {
		return true
	}
	body, ok := legacy.ReadBody(c.w, c.r, c.front.Limits)
	if !ok {
		return false
	}
	c.body = body
	if messages, _, err := rpc.ParseBody(body); err == nil { // the server refuses what is no JSON-RPC
		c.message, c.all = messages[0], messages
		metrics.RequestOf(c.r.Context()).SetMessage(messages[0])
	}
	return true
}

func (c *call) refuse(status int, code rpc.Code, message string) {
	legacy.Refuse(c.w, status, idOf(c.all), code, message, nil)
}

func (c *call) refuseNotFound() { legacy.RefuseNotFound(c.w, idOf(c.all)) }

// refuseForNow answers a request that this pod does not accept at present.
func (c *call) refuseForNow(err error) {
	c.refuse(http.StatusServiceUnavailable, rpc.Unavailable, err.Error()+": try again")
}

// refuseServer answers a request that the server did not answer.
func (c *call) refuseServer(err error) {
	if c.r.Context().Err() != nil {
		return // the client is gone
	}
	if c.session != nil && errors.Is(context.Cause(c.session.ctx), session.ErrEnded) { // by another request, while this one was waiting
		c.refuseNotFound()
		return
	}
	if c.front.Log != nil {
		c.front.Log.Warn("the server has not answered a request", "error", err)
	}
	refused, is := errors.AsType[*refusal](err)
	if is && refused.isAboutClient() {
		maps.Copy(c.w.Header(), refused.header)
		c.w.Header().Del(legacy.SessionHeader)
		c.w.Header().Del("Content-Length")
		c.w.WriteHeader(refused.status)
		_, _ = c.w.Write(refused.body) // else the client is gone
		return
	}
	if is && refused.status == http.StatusNotFound { // the path is not that of the endpoint
		c.refuse(http.StatusNotFound, rpc.SessionNotFound, "the server behind the runner does not serve this path")
		return
	}
	if _, notSent := errors.AsType[notSentError](err); notSent {
		c.refuse(http.StatusServiceUnavailable, rpc.Unavailable, "the server behind the runner does not accept connections: try again")
		return
	}
	c.refuse(http.StatusBadGateway, rpc.Unavailable, "the server behind the runner has not answered the request: "+shorten(err.Error()))
}

// find returns the session of a request, in use if the request is a call. If it fails, it has answered the client.
func (c *call) find(id string) (done func(), found bool) {
	metrics.RequestOf(c.r.Context()).SetSession(id)
	sessions := c.front.Sessions
	one, done, state := sessions.use(id, c.r.Method == http.MethodPost)
	if state == session.Absent && c.front.TakeAbsent {
		if record, err := session.Parse(id); err == nil && record.Version != "" {
			if err := sessions.Take(c.r.Context(), record); err != nil {
				c.refuseForNow(err)
				return nil, false
			}
			one, done, state = sessions.use(id, c.r.Method == http.MethodPost)
		}
	}
	switch {
	case state == session.Live:
		c.session = one
		return done, true
	case state == session.Absent && sessions.IsDraining():
		c.refuseForNow(session.ErrDraining)
	default:
		c.refuseNotFound()
	}
	return nil, false
}

// inSession passes a request of a session. If the server does not know the session, it has not carried out the request: the session is opened again, and
// the request repeated.
func (c *call) inSession(id string) {
	done, found := c.find(id)
	if !found {
		return
	}
	defer done()
	if c.r.Method == http.MethodDelete {
		c.delete(id)
		return
	}
	if c.session.endpoint != nil {
		c.pass(nil)
		return
	}
	c.session.use(c.r)
	for attempt := range 3 {
		serverID, opened := c.session.current()
		if opened > 0 {
			lost := c.try(id, serverID, opened, attempt == 2)
			if !lost {
				return
			}
		}
		if err := c.session.reopen(c.r.Context(), opened); err != nil {
			c.refuseServer(err)
			return
		}
	}
}

// try sends a request of a session to the server. It reports whether the server has lost the session; then it has not answered the client.
func (c *call) try(id, serverID string, opened int, isLast bool) (lost bool) {
	original := c.r
	defer func() { c.r = original }()
	c.setHeader(legacy.SessionHeader, serverID)
	hasEventID := c.r.Header.Get(legacy.LastEventIDHeader) != ""
	for {
		isOldEvent := false
		c.pass(func(response *http.Response) error {
			if response.Header.Get(legacy.SessionHeader) != "" {
				response.Header.Set(legacy.SessionHeader, id)
			}
			if serverID == "" || isLast || c.r.URL.Path != c.session.endpointPath() || !isLost(response) {
				// After the server has lost the session, it does not know the events from before.
				isOldEvent = hasEventID && opened > 1 && response.StatusCode == http.StatusBadRequest
				return dropIf(isOldEvent)
			}
			lost = true
			return errDropped
		})
		switch {
		case lost && !c.front.Recreate:
			c.front.Sessions.forget(id)
			c.refuseNotFound()
			return false
		case !isOldEvent:
			return lost
		}
		hasEventID = false
		c.setHeader(legacy.LastEventIDHeader, "")
	}
}

// setHeader sets a header of the request for the server, or removes it if the value is empty.
func (c *call) setHeader(name, value string) {
	header := maps.Clone(c.r.Header)
	if header.Set(name, value); value == "" {
		header.Del(name)
	}
	c.r = c.r.WithContext(c.r.Context()) // a copy
	c.r.Header = header
}

// delete ends a session, here and at the server.
func (c *call) delete(id string) {
	serverID, opened := c.session.current()
	if c.session.endpoint != nil || opened == 0 || serverID == "" {
		c.front.Sessions.End(id)
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.session.use(c.r)
	c.setHeader(legacy.SessionHeader, serverID)
	one := c.session
	c.session = nil // its end must not end this request
	err := c.send(func(response *http.Response) error {
		response.Header.Del(legacy.SessionHeader)
		switch {
		case response.StatusCode < http.StatusMultipleChoices:
			c.front.Sessions.forget(id)
		case isLost(response):
			c.front.Sessions.forget(id)
			return errDropped
		}
		return nil // for example 405: the server does not let clients end sessions
	})
	switch {
	case err == nil, c.r.Context().Err() != nil:
		return
	case !errors.Is(err, errDropped): // the server is gone, and the session with it
		c.front.Sessions.forget(id)
		one.Close(session.ErrEnded)
	}
	c.w.WriteHeader(http.StatusNoContent)
}

// initialize opens a session. A server that does not give it an id has no sessions: then the client gets none either.
func (c *call) initialize() {
	sessions := c.front.Sessions
	open, release, err := sessions.Reserve()
	if err != nil {
		c.refuseForNow(err)
		return
	}
	defer release()
	defer sessions.draining.Notify()
	original := c.r
	c.setHeader(legacy.SessionHeader, "")
	c.pass(func(response *http.Response) error {
		serverID := response.Header.Get(legacy.SessionHeader)
		if serverID == "" {
			return nil
		}
		response.Header.Del(legacy.SessionHeader)
		version, isOpen := negotiated(response)
		if response.StatusCode >= http.StatusMultipleChoices || !isOpen {
			return nil
		}
		record := sessions.NewRecord()
		record.Version = session.KnownVersion(version)
		record.Capabilities = session.CapabilitiesOf(rpc.Get(c.message.Params, "capabilities"))
		one := newSession(sessions, version)
		one.serverID, one.opened, one.initialize = serverID, 1, c.message.Raw
		one.use(original)
		id := record.ID()
		open(id, one)
		response.Header.Set(legacy.SessionHeader, id)
		metrics.RequestOf(c.r.Context()).SetSession(id)
		return nil
	})
}

// life returns the context that ends with the session of a request.
func (c *call) life() context.Context {
	if c.session == nil {
		return context.Background()
	}
	return c.session.ctx
}
