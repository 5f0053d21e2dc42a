package peers

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// call is one request of a client.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	id     string // of the session; empty for a new one
	record session.Record

	isRead  bool
	body    []byte
	request json.RawMessage // id of the JSON-RPC request
}

// read reads the body, so that the request can be sent to a pod and, if that one does not have the session, to another. If it fails, it has answered the
// client.
func (c *call) read(l limits.Limits) (ok bool) {
	if c.isRead || c.r.Method != http.MethodPost {
		return true
	}
	body, ok := legacy.ReadBody(c.w, c.r, l)
	if !ok {
		return false
	}
	c.isRead, c.body = true, body
	if messages, _, err := rpc.ParseBody(body); err == nil {
		metrics.RequestOf(c.r.Context()).SetMessage(messages[0])
		c.request = messages[0].ID
	}
	return true
}

// local returns the request for the front of this pod.
func (c *call) local() *http.Request {
	if c.isRead {
		c.r.Body, c.r.ContentLength = io.NopCloser(bytes.NewReader(c.body)), int64(len(c.body))
	}
	return c.r
}

// wait waits. It reports whether the client is still there.
func (c *call) wait(duration time.Duration) bool {
	if duration == 0 {
		return c.r.Context().Err() == nil
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
		return false
	}
}

// reason is why a request is forwarded, for the metrics.
func (c *call) reason(take bool) string {
	switch {
	case c.id == "":
		return "new"
	case take:
		return "take"
	default:
		return "session"
	}
}

// refuse answers the client with a status and a JSON-RPC error.
func (c *call) refuse(status int, code rpc.Code, message string) {
	legacy.Refuse(c.w, status, c.request, code, message, nil)
}

// refuseAbsent tells the pod that has forwarded the request that the session is not here.
func (c *call) refuseAbsent() {
	c.w.Header().Set(AbsentHeader, "true")
	c.refuse(http.StatusMisdirectedRequest, rpc.SessionNotFound, "this pod does not have the session")
}

func (c *call) refuseNotFound() { legacy.RefuseNotFound(c.w, c.request) }

func (c *call) refuseFull() {
	c.refuse(http.StatusServiceUnavailable, rpc.Unavailable, "no pod takes another session at present: try again")
}
