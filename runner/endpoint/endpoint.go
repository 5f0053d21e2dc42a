// Package endpoint is the URL at which clients of all protocol versions call. It decides for each request which of them it is.
package endpoint

import (
	"errors"
	"net/http"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/modern"
	"mcpserver-operator/runner/rpc"
)

// Endpoint is the HTTP handler.
type Endpoint struct {
	Limits limits.Limits
	Legacy *legacy.Front
	Modern *modern.Front
}

// ServeHTTP checks what holds for all versions, and passes the request on.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !legacy.CheckOrigin(w, r, e.Limits) {
		return
	}
	version := r.Header.Get(legacy.VersionHeader)
	switch {
	case r.Method == http.MethodPost:
		e.post(w, r, version)
	case version >= rpc.Modern:
		w.Header().Set("Allow", http.MethodPost)
		legacy.Refuse(w, http.StatusMethodNotAllowed, nil, rpc.InvalidRequest, "the method of the HTTP request must be POST", nil)
	default:
		e.Legacy.ServeHTTP(w, r)
	}
}

func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, version string) {
	if !limits.IsJSON(r) {
		legacy.Refuse(w, http.StatusUnsupportedMediaType, nil, rpc.InvalidRequest, "the header Content-Type must be application/json", nil)
		return
	}
	body, ok := legacy.ReadBody(w, r, e.Limits)
	if !ok {
		return
	}
	messages, isBatch, err := rpc.ParseBody(body)
	switch {
	case errors.Is(err, rpc.ErrNotRPC):
		legacy.Refuse(w, http.StatusBadRequest, nil, rpc.InvalidRequest, err.Error(), nil)
		return
	case err != nil:
		legacy.Refuse(w, http.StatusBadRequest, nil, rpc.ParseError, err.Error(), nil)
		return
	}
	metrics.RequestOf(r.Context()).SetMessage(messages[0])
	if modern.Is(version, messages[0]) {
		e.Modern.Post(w, r, messages, isBatch)
		return
	}
	e.Legacy.Post(w, r, messages, isBatch)
}
