// Package httpsse serves the transport HTTP+SSE of the protocol version 2024-11-05: one stream for all messages of the server, and a POST for each message of
// the client.
package httpsse

import (
	"errors"
	"log/slog"
	"net/http"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stdio"
	"mcpserver-operator/runner/stream"
)

// Front is the HTTP handler.
type Front struct {
	Sessions *stdio.Sessions
	Limits   limits.Limits
	Log      *slog.Logger
}

// Stream serves GET /sse. The session lives as long as the stream: a client cannot go on with it on another stream.
func (f *Front) Stream(w http.ResponseWriter, r *http.Request) {
	if !legacy.CheckOrigin(w, r, f.Limits) {
		return
	}
	if !limits.Accepts(r, "text/event-stream") {
		http.Error(w, "the header Accept must contain text/event-stream", http.StatusNotAcceptable)
		return
	}
	id, one, done, err := f.Sessions.OpenStream()
	if err != nil {
		f.refuse(w, err)
		return
	}
	defer done()
	metrics.RequestOf(r.Context()).SetSession(id)
	reader := one.General().Attach(0)
	defer reader.Detach()
	writer, err := stream.NewWriter(w, f.Limits.Write)
	if err == nil {
		// The URL is relative, so that it also holds behind a gateway that adds a prefix to the path.
		err = errors.Join(writer.Event("", "endpoint", []byte("messages?"+legacy.SessionParameter+"="+id)), writer.Flush())
	}
	for isEnd := false; err == nil && !isEnd; {
		var events []stream.Event
		events, isEnd, err = writer.Await(r.Context(), reader, f.Limits.KeepAlive)
		for _, event := range events {
			err = errors.Join(err, writer.Event("", "message", event.Data))
		}
		if err == nil && len(events) > 0 {
			err = writer.Flush()
		}
	}
}

// Message serves POST /messages.
func (f *Front) Message(w http.ResponseWriter, r *http.Request) {
	if !legacy.CheckOrigin(w, r, f.Limits) {
		return
	}
	if !limits.IsJSON(r) {
		http.Error(w, "the header Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	id := r.URL.Query().Get(legacy.SessionParameter)
	if id == "" {
		http.Error(w, "the query parameter sessionId is missing", http.StatusBadRequest)
		return
	}
	one, done, state := f.Sessions.Use(id)
	if state != session.Live {
		http.Error(w, "the session does not exist or has ended", http.StatusNotFound)
		return
	}
	defer done()
	metrics.RequestOf(r.Context()).SetSession(id)
	body, ok := legacy.ReadBody(w, r, f.Limits)
	if !ok {
		return
	}
	message, err := rpc.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	metrics.RequestOf(r.Context()).SetMessage(message)
	if message.Kind == rpc.Request {
		_, err = one.Call(r.Context(), message)
	} else {
		err = one.Send(r.Context(), message)
	}
	if err != nil {
		f.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte("Accepted")) // else the client is gone
}

func (f *Front) refuse(w http.ResponseWriter, err error) {
	status := legacy.StatusOf(err)
	if status == http.StatusBadGateway {
		f.Log.Warn("a request cannot be served", "error", err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, err.Error(), status)
}
