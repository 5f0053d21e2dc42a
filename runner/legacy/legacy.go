// Package legacy serves Streamable HTTP of the protocol versions with sessions: 2025-03-26, 2025-06-18 and 2025-11-25.
package legacy

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stdio"
	"mcpserver-operator/runner/stream"
)

// The headers of Streamable HTTP.
const (
	SessionHeader     = "Mcp-Session-Id"
	VersionHeader     = "Mcp-Protocol-Version"
	LastEventIDHeader = "Last-Event-Id"
)

// SessionParameter is the query parameter with the session id in the URL to which a client of HTTP+SSE posts.
const SessionParameter = "sessionId"

// hold is how long the header of a response waits for the first message. If that is the response, the client gets it without a stream.
const hold = 50 * time.Millisecond

// retry is how long a client waits before it connects again after a stream was closed.
const retry = 500 * time.Millisecond

// Front is the HTTP handler.
type Front struct {
	Sessions *stdio.Sessions
	Limits   limits.Limits
	// Recreate is true if this front itself recreates sessions that this pod does not have. With several pods, the router decides which pod does.
	Recreate bool
	Log      *slog.Logger
}

// ServeHTTP serves GET and DELETE. The caller has read and parsed the body of a POST, and calls Post.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		f.get(w, r)
	case http.MethodDelete:
		f.delete(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		Refuse(w, http.StatusMethodNotAllowed, nil, rpc.InvalidRequest, "the method of the HTTP request must be GET, POST or DELETE", nil)
	}
}

// Refuse answers a request with an HTTP status and a JSON-RPC error.
func Refuse(w http.ResponseWriter, status int, id json.RawMessage, code rpc.Code, message string, data any) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(rpc.Error(id, code, message, data)) //nolint:gosec // JSON, not HTML; without success, the client is gone
}

// RefuseNotFound answers a request of a session that does not exist. Its client then opens another.
func RefuseNotFound(w http.ResponseWriter, id json.RawMessage) {
	Refuse(w, http.StatusNotFound, id, rpc.SessionNotFound, "the session does not exist or has ended: begin again with the request initialize", nil)
}

// session returns the session of a request, or refuses the request. A session that this pod does not have is recreated. use is whether the request keeps
// the session from being idle.
func (f *Front) session(w http.ResponseWriter, r *http.Request, id json.RawMessage, use bool) (one *stdio.Session, done func()) {
	name := r.Header.Get(SessionHeader)
	if name == "" {
		Refuse(w, http.StatusBadRequest, id, rpc.InvalidRequest, "the header Mcp-Session-Id is missing: begin with the request initialize", nil)
		return nil, nil
	}
	find := func() (*stdio.Session, func(), session.State) {
		if use {
			return f.Sessions.Use(name)
		}
		found, state := f.Sessions.Peek(name)
		return found, func() {}, state
	}
	one, done, state := find()
	if state == session.Absent && f.Recreate {
		if record, err := session.Parse(name); err == nil && record.Version != "" {
			if err := f.Sessions.Take(r.Context(), record); err != nil {
				f.refuse(w, id, err)
				return nil, nil
			}
			one, done, state = find()
		}
	}
	if state == session.Live {
		return one, done
	}
	if state == session.Absent && f.Sessions.IsDraining() {
		f.refuse(w, id, session.ErrDraining)
		return nil, nil
	}
	RefuseNotFound(w, id)
	return nil, nil
}

// StatusOf returns the HTTP status for a request that the sessions did not accept. A full pod is 503 and not 404: the client must not give up its session.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, session.ErrDraining), errors.Is(err, session.ErrFull), errors.Is(err, stdio.ErrClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, stdio.ErrBusy):
		return http.StatusTooManyRequests
	case errors.Is(err, stdio.ErrDuplicate):
		return http.StatusBadRequest
	case errors.Is(err, session.ErrEnded):
		return http.StatusNotFound
	default:
		return http.StatusBadGateway
	}
}

// refuse answers a request that the sessions did not accept.
func (f *Front) refuse(w http.ResponseWriter, id json.RawMessage, err error) {
	status := StatusOf(err)
	code := rpc.Unavailable
	switch status {
	case http.StatusBadRequest:
		code = rpc.InvalidRequest
	case http.StatusNotFound:
		code = rpc.SessionNotFound
	case http.StatusBadGateway:
		f.Log.Warn("a request cannot be served", "error", err)
	}
	Refuse(w, status, id, code, err.Error(), nil)
}

// CheckVersion refuses a request whose header MCP-Protocol-Version names no version with sessions. It returns the version.
func CheckVersion(w http.ResponseWriter, r *http.Request, id json.RawMessage) (version string, ok bool) {
	version = r.Header.Get(VersionHeader)
	if version == "" {
		return rpc.Batching, true
	}
	if !slices.Contains(rpc.Legacy, version) {
		RefuseVersion(w, id, version, rpc.Legacy[1:])
		return "", false
	}
	return version, true
}

// RefuseVersion answers a request in a version that is not supported. Clients choose one of the supported versions and try again.
func RefuseVersion(w http.ResponseWriter, id json.RawMessage, version string, supported []string) {
	Refuse(w, http.StatusBadRequest, id, rpc.UnsupportedVersion, "the protocol version is not supported; supported are "+strings.Join(supported, ", "),
		map[string]any{"supported": supported, "requested": version})
}

// Post serves the messages of a POST.
func (f *Front) Post(w http.ResponseWriter, r *http.Request, messages []rpc.Message, isBatch bool) {
	request := metrics.RequestOf(r.Context())
	var id json.RawMessage
	var requests []rpc.Message
	for _, message := range messages {
		if message.Kind == rpc.Request {
			requests = append(requests, message)
		}
	}
	if len(requests) > 0 {
		id = requests[0].ID
	}
	version, ok := CheckVersion(w, r, id)
	if !ok {
		return
	}
	if !limits.Accepts(r, "application/json") || !limits.Accepts(r, "text/event-stream") {
		Refuse(w, http.StatusNotAcceptable, id, rpc.InvalidRequest, "the header Accept must contain application/json and text/event-stream", nil)
		return
	}
	if slices.ContainsFunc(requests, func(m rpc.Message) bool { return m.Method == "initialize" }) {
		if isBatch {
			Refuse(w, http.StatusBadRequest, id, rpc.InvalidRequest, "the request initialize must not be part of a batch", nil)
			return
		}
		f.initialize(w, r, requests[0])
		return
	}
	if isBatch && version != rpc.Batching {
		Refuse(w, http.StatusBadRequest, id, rpc.InvalidRequest, "a batch is allowed only in the protocol version 2025-03-26", nil)
		return
	}
	request.SetSession(r.Header.Get(SessionHeader))
	one, done := f.session(w, r, id, true)
	if one == nil {
		return
	}
	defer done()
	for _, message := range messages {
		if message.Kind == rpc.Request {
			continue
		}
		if err := one.Send(r.Context(), message); err != nil {
			f.refuse(w, id, err)
			return
		}
	}
	if len(requests) == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	reader, err := one.Call(r.Context(), requests...)
	if err != nil {
		f.refuse(w, id, err)
		return
	}
	defer reader.Detach()
	f.answer(w, r, one, reader, isBatch, version)
}

func (f *Front) initialize(w http.ResponseWriter, r *http.Request, request rpc.Message) {
	opened, err := f.Sessions.Initialize(r.Context(), request)
	if r.Context().Err() != nil {
		return // the client is gone
	}
	if err != nil {
		f.refuse(w, request.ID, err)
		return
	}
	if opened.ID != "" {
		w.Header().Set(SessionHeader, opened.ID)
		metrics.RequestOf(r.Context()).SetSession(opened.ID)
	}
	metrics.RequestOf(r.Context()).SetAnswer(opened.Events[len(opened.Events)-1].Data)
	if len(opened.Events) == 1 {
		writeJSON(w, opened.Events[0].Data, f.Limits.Write)
		return
	}
	writer, err := stream.NewWriter(w, f.Limits.Write)
	if err == nil {
		err = writeEvents(writer, opened.Stream, opened.Events)
	}
	if err != nil {
		f.Log.Debug("a client has left", "error", err)
	}
}

func writeJSON(w http.ResponseWriter, data []byte, timeout time.Duration) bool {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout)) // not supported by recorders in tests
	_, err := w.Write(data)
	return err == nil
}

func writeEvents(writer *stream.Writer, name string, events []stream.Event) error {
	for _, event := range events {
		if err := writer.Event(stream.EventID(name, event.Sequence), "message", event.Data); err != nil {
			return err
		}
	}
	return writer.Flush()
}

// answer writes the stream of a request. If the response comes first and soon, it is the body, without a stream. A client that disconnects can go on with
// the stream later; its request is not cancelled.
func (f *Front) answer(w http.ResponseWriter, r *http.Request, one *stdio.Session, reader *stream.Reader, isBatch bool, version string) {
	log, request := reader.Log(), metrics.RequestOf(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), hold)
	events, isEnd, err := reader.Next(ctx)
	cancel()
	if r.Context().Err() != nil || errors.Is(err, stream.ErrReplaced) {
		request.SetOutcome(metrics.Disconnected)
		return
	}
	if isEnd && len(events) == 1 && !isBatch && !limits.PrefersStream(r) {
		request.SetAnswer(events[0].Data)
		if writeJSON(w, events[0].Data, f.Limits.Write) {
			log.Discard()
		}
		return
	}
	writer, err := stream.NewWriter(w, f.Limits.Write)
	if err != nil {
		return
	}
	// The first event lets the client come back from the beginning. Versions before 2025-11-25 do not know an event without data. A stream that
	// has ended, because the request was cancelled, needs none.
	if version == rpc.Polling && !isEnd {
		if err := writer.Event(stream.EventID(log.Name, 0), "", nil); err != nil {
			return
		}
	}
	if err := writeEvents(writer, log.Name, events); err != nil {
		return
	}
	last := f.follow(r.Context(), writer, reader, events, isEnd)
	switch {
	case last != nil:
		request.SetAnswer(last)
	case r.Context().Err() != nil:
		request.SetOutcome(metrics.Disconnected)
	default:
		request.SetOutcome(metrics.Cancelled)
	}
	if errors.Is(one.Cause(), session.ErrMoved) {
		_ = writer.Retry(retry) // else the client is gone
		_ = writer.Flush()
	}
}

// follow writes the events of a stream until it ends or the client leaves. It returns the last event if the stream has ended with one.
func (f *Front) follow(ctx context.Context, writer *stream.Writer, reader *stream.Reader, events []stream.Event, isEnd bool) []byte {
	var last []byte
	for {
		if len(events) > 0 {
			last = events[len(events)-1].Data
		}
		if isEnd {
			return last
		}
		var err error
		if events, isEnd, err = writer.Await(ctx, reader, f.Limits.KeepAlive); err == nil {
			err = writeEvents(writer, reader.Log().Name, events)
		}
		if err != nil {
			return nil
		}
	}
}

// get opens the stream of messages that belong to no request, or goes on with the stream that Last-Event-ID names.
func (f *Front) get(w http.ResponseWriter, r *http.Request) {
	if _, ok := CheckVersion(w, r, nil); !ok {
		return
	}
	if !limits.Accepts(r, "text/event-stream") {
		Refuse(w, http.StatusNotAcceptable, nil, rpc.InvalidRequest, "the header Accept must contain text/event-stream", nil)
		return
	}
	metrics.RequestOf(r.Context()).SetSession(r.Header.Get(SessionHeader))
	one, _ := f.session(w, r, nil, false)
	if one == nil {
		return
	}
	log, after := one.General(), one.General().Taken()
	if last := r.Header.Get(LastEventIDHeader); last != "" {
		name, sequence, ok := stream.ParseEventID(last)
		if !ok {
			Refuse(w, http.StatusBadRequest, nil, rpc.InvalidRequest, "the header Last-Event-ID is none of an event of this server", nil)
			return
		}
		known := one.Stream(name)
		request := stdio.RequestOf(name)
		switch {
		case known == nil && request == nil: // the stream of messages that belong to no request, before the session was recreated
		case known == nil && one.Knows(name), known != nil && known.IsComplete(sequence):
			w.WriteHeader(http.StatusNoContent) // the client has everything; it does not come back
			return
		case known == nil:
			f.answerLost(w, request)
			return
		default:
			log, after = known, sequence
		}
	}
	if log != one.General() { // a client that waits for a response uses the session
		_, done, state := f.Sessions.Use(r.Header.Get(SessionHeader))
		if state == session.Live {
			defer done()
		}
	}
	f.serveStream(w, r, one, log, after)
}

func (f *Front) serveStream(w http.ResponseWriter, r *http.Request, one *stdio.Session, log *stream.Log, after uint64) {
	reader := log.Attach(after)
	defer reader.Detach()
	writer, err := stream.NewWriter(w, f.Limits.Write)
	if err != nil {
		return
	}
	if f.follow(r.Context(), writer, reader, nil, false); errors.Is(one.Cause(), session.ErrMoved) {
		_ = writer.Retry(retry) // else the client is gone
		_ = writer.Flush()
	}
}

// answerLost answers a request that was in progress when its pod was lost. It may have been carried out or not, so it is not repeated.
func (f *Front) answerLost(w http.ResponseWriter, id json.RawMessage) {
	writer, err := stream.NewWriter(w, f.Limits.Write)
	if err != nil {
		return
	}
	_ = writer.Event("", "message", rpc.Error(id, rpc.Unavailable, "the pod that carried out the request was lost", nil)) // else the client is gone
	_ = writer.Flush()
}

// delete ends a session.
func (f *Front) delete(w http.ResponseWriter, r *http.Request) {
	if _, ok := CheckVersion(w, r, nil); !ok {
		return
	}
	name := r.Header.Get(SessionHeader)
	metrics.RequestOf(r.Context()).SetSession(name)
	if name == "" {
		Refuse(w, http.StatusBadRequest, nil, rpc.InvalidRequest, "the header Mcp-Session-Id is missing", nil)
		return
	}
	state := f.Sessions.State(name)
	if _, err := session.Parse(name); err != nil || state == session.Ended || (state == session.Absent && !f.Recreate) {
		RefuseNotFound(w, nil)
		return
	}
	f.Sessions.End(name)
	w.WriteHeader(http.StatusNoContent)
}
