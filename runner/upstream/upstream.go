// Package upstream serves sessions of an HTTP server behind the runner. The session id of the client is that of the runner. The id of the server is kept
// beside it and replaced in requests and responses, so that the runner can open another session of the server under the same id.
package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// Front is the HTTP handler for clients.
type Front struct {
	Limits   limits.Limits
	Sessions *Sessions
	// Recreate says whether a session that the server has lost is opened again.
	Recreate bool
}

// ServeHTTP passes a request to the server. Requests without a session, which include all of the protocol version 2026-07-28, pass through unchanged.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.Limits.AllowsOrigin(r) {
		legacy.Refuse(w, http.StatusForbidden, nil, rpc.InvalidRequest, "requests from this origin are not allowed", nil)
		return
	}
	body, err := f.Limits.ReadBody(w, r)
	switch {
	case errors.Is(err, limits.ErrBodyTooLarge):
		legacy.Refuse(w, http.StatusRequestEntityTooLarge, nil, rpc.InvalidRequest, err.Error(), nil)
		return
	case err != nil:
		legacy.Refuse(w, http.StatusRequestTimeout, nil, rpc.InvalidRequest, err.Error(), nil)
		return
	}
	call := call{front: f, body: body}
	if messages, _, err := rpc.ParseBody(body); err == nil { // the server refuses what is no JSON-RPC
		call.message = messages[0]
		metrics.RequestOf(r.Context()).SetMessage(messages[0])
	}
	id := r.Header.Get(legacy.SessionHeader)
	switch {
	case r.Header.Get(legacy.VersionHeader) >= rpc.Modern:
		call.pass(w, r, nil)
	case id != "":
		call.inSession(w, r, id)
	case call.message.Method == "initialize" && call.message.Kind == rpc.Request:
		call.initialize(w, r)
	default:
		call.pass(w, r, nil)
	}
}

// call is a request on its way to the server.
type call struct {
	front   *Front
	body    []byte
	message rpc.Message
}

var errLost = errors.New("the server does not know the session")

// inSession passes a request of a session.
func (c *call) inSession(w http.ResponseWriter, r *http.Request, id string) {
	metrics.RequestOf(r.Context()).SetSession(id)
	one, done, state := c.front.Sessions.Use(id)
	if state != session.Live {
		legacy.Refuse(w, http.StatusNotFound, c.message.ID, rpc.SessionNotFound, "there is no such session: open a new one", nil)
		return
	}
	defer done()
	if c.message.Kind == rpc.Request && c.message.Method == "initialize" {
		legacy.Refuse(w, http.StatusBadRequest, c.message.ID, rpc.InvalidRequest, "the session is initialized already", nil)
		return
	}
	for attempt := range 2 {
		name := one.name()
		r.Header.Set(legacy.SessionHeader, name)
		isLast := attempt > 0 || !c.front.Recreate || r.Method == http.MethodDelete
		lost := false
		c.pass(w, r, func(response *http.Response) error {
			if response.StatusCode == http.StatusNotFound && !isLast {
				lost = true
				return errLost // the request was not carried out
			}
			if response.Header.Get(legacy.SessionHeader) != "" {
				response.Header.Set(legacy.SessionHeader, id)
			}
			if r.Method == http.MethodDelete && response.StatusCode < http.StatusMultipleChoices {
				c.front.Sessions.forget(id)
			}
			return nil
		})
		if !lost {
			return
		}
		if err := one.reopen(r.Context(), name); err != nil {
			c.refuseServer(w, err)
			return
		}
	}
}

// initialize opens a session. A server that does not give it an id has no sessions: then the client gets none either.
func (c *call) initialize(w http.ResponseWriter, r *http.Request) {
	open, release, err := c.front.Sessions.reserve()
	if err != nil {
		w.Header().Set("Retry-After", "5")
		legacy.Refuse(w, http.StatusServiceUnavailable, c.message.ID, rpc.Unavailable, err.Error(), nil)
		return
	}
	defer release()
	c.pass(w, r, func(response *http.Response) error {
		name := response.Header.Get(legacy.SessionHeader)
		if name == "" || response.StatusCode >= http.StatusMultipleChoices {
			return nil
		}
		record := c.front.Sessions.newRecord()
		record.Version = negotiated(response, c.message)
		record.Capabilities = session.CapabilitiesOf(rpc.Get(c.message.Params, "capabilities"))
		id := record.ID()
		open(id, &Session{sessions: c.front.Sessions, serverID: name, initialize: c.message.Raw, version: record.Version})
		response.Header.Set(legacy.SessionHeader, id)
		metrics.RequestOf(r.Context()).SetSession(id)
		return nil
	})
}

// mostBegin is how much of the answer to initialize is read to find the negotiated version.
const mostBegin = 64 << 10

// negotiated returns the protocol version in the answer to initialize, which may be JSON or the first event of a stream. The answer stays readable. If
// the version cannot be found, it is the one that the client has asked for.
func negotiated(response *http.Response, request rpc.Message) string {
	begin := make([]byte, 0, 4096)
	var version string
	for version == "" && len(begin) < mostBegin {
		part := make([]byte, 4096)
		n, err := response.Body.Read(part)
		begin = append(begin, part[:n]...)
		version = versionIn(begin)
		if err != nil {
			break
		}
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), response.Body), response.Body}
	if version == "" {
		version, _ = rpc.GetString(request.Params, "protocolVersion")
	}
	return session.KnownVersion(version)
}

// versionIn returns the version in the lines of an answer that are complete JSON.
func versionIn(content []byte) string {
	for line := range bytes.Lines(content) {
		message, err := rpc.Parse(bytes.TrimPrefix(bytes.TrimSpace(line), []byte("data:")))
		if err == nil && message.Result != nil {
			version, _ := rpc.GetString(message.Result, "protocolVersion")
			return version
		}
	}
	return ""
}

// pass sends the request to the server and its answer to the client. Change may change the answer; if it fails, the answer is dropped.
func (c *call) pass(w http.ResponseWriter, r *http.Request, change func(*http.Response) error) {
	target := c.front.Sessions.config.Target
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = target.Scheme, target.Host
			p.Out.Host = target.Host   // many servers allow only their own name (DNS rebinding)
			p.Out.Header.Del("Origin") // it was checked
			p.Out.Body, p.Out.ContentLength = io.NopCloser(bytes.NewReader(c.body)), int64(len(c.body))
			if len(c.body) == 0 {
				p.Out.Body = http.NoBody
			}
		},
		Transport:      c.front.Sessions.transport,
		ErrorLog:       log.New(io.Discard, "", 0), // the client gets the errors
		ModifyResponse: change,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, errLost) || r.Context().Err() != nil {
				return
			}
			c.refuseServer(w, err)
		},
	}
	proxy.ServeHTTP(limitWrites(w, c.front.Limits.Write), r)
}

func (c *call) refuseServer(w http.ResponseWriter, err error) {
	legacy.Refuse(w, http.StatusBadGateway, c.message.ID, rpc.Unavailable, "the server behind the runner cannot be used: "+shortText(err), nil)
}

// shortText returns the text of an error, cut to 200 bytes.
func shortText(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	return text[:min(len(text), 200)]
}

// IsReady reports whether the server answers: any HTTP response will do.
func IsReady(ctx context.Context, target *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: "/"}).String(), nil)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	_ = response.Body.Close()
	return nil
}
