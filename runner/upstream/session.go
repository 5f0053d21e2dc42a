package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/singleflight"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

// Session is a session of the server under an id of the runner.
type Session struct {
	sessions *Sessions
	ctx      context.Context // the life of the session, not of a request
	cancel   context.CancelCauseFunc
	opening  singleflight.Group
	// endpoint is where the messages of a session of HTTP+SSE go; nil for Streamable HTTP.
	endpoint *url.URL

	mutex      sync.Mutex
	initialize []byte // with which the session is opened again
	version    string
	path       string // of the endpoint; empty if no client has used it yet
	// opened is how often the session was opened at the server. If it is 0, the first request opens it.
	opened   int
	serverID string      // empty if the server gives the session no id
	header   http.Header // of the last request: it has the credentials of the client
}

func newSession(s *Sessions, version string) *Session {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Session{sessions: s, version: version, ctx: ctx, cancel: cancel}
}

// current returns the id that the server has given the session, and how often it was opened.
func (s *Session) current() (serverID string, opened int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.serverID, s.opened
}

// use notes a request of the client.
func (s *Session) use(r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.header = r.Header; s.opened == 0 || s.path == "" {
		s.path = r.URL.Path
	}
}

// endpointPath returns the path of the requests of the session.
func (s *Session) endpointPath() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.path
}

// url returns the endpoint of the server.
func (s *Session) url() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	target := *s.sessions.config.Target
	switch {
	case s.path != "":
		target.Path = s.path
	case target.Path == "" || target.Path == "/":
		target.Path = "/mcp"
	}
	return target.String()
}

// reopen opens the session again, unless another request has done so since it was opened for the given number of times. Concurrent requests open it once.
func (s *Session) reopen(ctx context.Context, opened int) error {
	result := s.opening.DoChan(strconv.Itoa(opened), func() (any, error) {
		if _, now := s.current(); now != opened {
			return nil, nil
		}
		ctx, cancel := context.WithTimeoutCause(s.ctx, s.sessions.config.OpenTimeout, errors.New("the server does not answer in time"))
		defer cancel()
		if err := s.sessions.patiently(ctx, func() error { return s.open(ctx) }); err != nil {
			return nil, fmt.Errorf("opening the session again: %w", err)
		}
		s.sessions.config.Metrics.Recreated.Inc()
		return nil, nil
	})
	select {
	case done := <-result:
		return done.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Session) open(ctx context.Context) error {
	header, answer, err := s.post(ctx, s.initialize, "")
	if err != nil {
		return err
	}
	if answer.Result == nil {
		message, _ := rpc.GetString(answer.Raw, "error", "message")
		return fmt.Errorf("the server refuses: %s", shorten(message))
	}
	version, _ := rpc.GetString(answer.Result, "protocolVersion")
	serverID := header.Get(legacy.SessionHeader)
	s.mutex.Lock()
	s.version = version
	s.mutex.Unlock()
	if _, _, err := s.post(ctx, []byte(session.Initialized), serverID); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.serverID = serverID
	s.opened++
	return nil
}

// refusal is an answer of the server that refuses a request of the runner.
type refusal struct {
	status int
	header http.Header
	body   []byte
}

func (r *refusal) Error() string { return fmt.Sprintf("the server answers with status %d", r.status) }

// isAboutClient reports whether the client has to see the answer, because it is about its credentials.
func (r *refusal) isAboutClient() bool {
	return r.status == http.StatusUnauthorized || r.status == http.StatusForbidden
}

// notSentError is the error of a request that did not reach the server.
type notSentError struct{ error }

func (e notSentError) Unwrap() error { return e.error }

// mostAnswer is the length of an answer to a message of the runner.
const mostAnswer = 1 << 20

// post sends a message of the runner itself, with the credentials of the client, and reads the answer if the message is a request.
func (s *Session) post(ctx context.Context, message []byte, serverID string) (http.Header, rpc.Message, error) {
	ctx, sent := relay.Track(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url(), bytes.NewReader(message))
	if err != nil {
		return nil, rpc.Message{}, fmt.Errorf("asking the server: %w", err)
	}
	s.prepare(request, serverID)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := s.sessions.transport.RoundTrip(request)
	if err != nil {
		err = fmt.Errorf("asking the server: %w", err)
		if sent.Nothing() {
			err = notSentError{err}
		}
		return nil, rpc.Message{}, err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		body, _ := io.ReadAll(io.LimitReader(response.Body, mostAnswer)) // what there is
		return nil, rpc.Message{}, &refusal{response.StatusCode, response.Header, body}
	}
	if serverID != "" || bytes.Equal(message, []byte(session.Initialized)) {
		return response.Header, rpc.Message{}, nil
	}
	answer, err := readAnswer(response)
	return response.Header, answer, err
}

// prepare gives a request of the runner the headers of the last request of the client, without those of that request alone.
func (s *Session) prepare(request *http.Request, serverID string) {
	s.mutex.Lock()
	header, version := s.header, s.version
	s.mutex.Unlock()
	ofConnection := strings.ToLower(strings.Join(header.Values("Connection"), ","))
	for name, values := range header {
		if !isOfOneRequest(name) && !strings.Contains(ofConnection, strings.ToLower(name)) {
			request.Header[name] = values
		}
	}
	if serverID != "" {
		request.Header.Set(legacy.SessionHeader, serverID)
		request.Header.Set(legacy.VersionHeader, version)
	}
}

// isOfOneRequest reports whether a header says something of one request or of its connection.
func isOfOneRequest(name string) bool {
	switch name {
	case legacy.SessionHeader, legacy.VersionHeader, legacy.LastEventIDHeader, "Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length",
		"Content-Type", "Expect", "Idempotency-Key", "Keep-Alive", "Origin", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding",
		"Upgrade", "X-Idempotency-Key":
		return true
	default:
		return strings.HasPrefix(name, internalHeader) || strings.HasPrefix(name, "Mcp-Method") || strings.HasPrefix(name, "Mcp-Name")
	}
}

// readAnswer reads the response to a request, which is JSON or an event on a stream.
func readAnswer(response *http.Response) (rpc.Message, error) {
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != eventStream {
		body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
		if err != nil {
			return rpc.Message{}, fmt.Errorf("reading the answer of the server: %w", err)
		}
		answer, err := rpc.Parse(body)
		if err != nil {
			return rpc.Message{}, fmt.Errorf("reading the answer of the server: %w", err)
		}
		return answer, nil
	}
	events := stream.NewScanner(io.LimitReader(response.Body, mostAnswer), mostAnswer)
	for {
		event, err := events.Next()
		if err != nil {
			return rpc.Message{}, fmt.Errorf("reading the answer of the server: %w", err)
		}
		if answer, err := rpc.Parse(event.Data); err == nil && answer.Kind == rpc.Response {
			return answer, nil
		}
	}
}

// Close ends the session with session.ErrEnded or session.ErrMoved: its streams at once, and the session of the server in the background.
func (s *Session) Close(cause error) {
	s.cancel(cause)
	serverID, _ := s.current()
	if serverID == "" || s.endpoint != nil {
		return
	}
	s.sessions.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.url(), http.NoBody)
		if err != nil {
			return
		}
		s.prepare(request, serverID)
		if response, err := s.sessions.transport.RoundTrip(request); err == nil { // else the server has lost it, or ends it when it is idle
			_ = response.Body.Close()
		}
	})
}

// shorten cuts a text of the server to 200 bytes.
func shorten(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), 200)], "?")
}

// idOf returns the id of a request as JSON.
func idOf(messages []rpc.Message) json.RawMessage {
	for _, message := range messages {
		if message.Kind == rpc.Request {
			return message.ID
		}
	}
	return nil
}
