package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// fakeServer is an MCP server with Streamable HTTP and HTTP+SSE, which remembers what it was sent.
type fakeServer struct {
	t        *testing.T
	http     *httptest.Server
	metrics  *metrics.Set
	sessions *Sessions
	front    *httptest.Server

	mutex      sync.Mutex
	live       map[string]int // calls of each session
	opened     int
	deleted    []string
	calls      int
	initials   []string                                          // bodies of initialize
	seen       []http.Header                                     // of all requests
	stateless  bool                                              // gives no session ids
	streams    bool                                              // answers with streams
	refuses    bool                                              // answers initialize with an error
	token      string                                            // required in the header Authorization
	lostStatus int                                               // for an unknown session
	lostBody   string                                            // for an unknown session
	during     func(w http.ResponseWriter, r *http.Request) bool // replaces an answer
}

// setUp changes the server and the front before they are used.
type setUp func(s *fakeServer, c *Config, f *Front)

func newServer(t *testing.T, setUps ...setUp) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, live: map[string]int{}, lostStatus: http.StatusNotFound, lostBody: "no such session"}
	s.http = httptest.NewServer(s)
	target, err := url.Parse(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.metrics = metrics.New(func() float64 { return 0 })
	config := Config{Target: target, Ordinal: 3, Most: 100, Idle: time.Hour, OpenTimeout: 5 * time.Second, Metrics: s.metrics}
	front := &Front{Limits: limits.Limits{Body: 1 << 20, Read: time.Minute, Write: time.Minute}, Recreate: true, StreamPath: "/sse", Log: slog.New(slog.DiscardHandler)}
	for _, one := range setUps {
		one(s, &config, front)
	}
	s.sessions = NewSessions(config)
	front.Sessions = s.sessions
	s.front = httptest.NewServer(front)
	t.Cleanup(func() {
		s.front.CloseClientConnections()
		s.front.Close()
		s.http.CloseClientConnections()
		s.http.Close()
		s.sessions.Close()
	})
	return s
}

// isEmpty reports whether the pod has no session, and none is being opened.
func (s *fakeServer) isEmpty() bool {
	open, _, _ := s.sessions.Load()
	return open == 0
}

// restart forgets all sessions, as a server does that starts again.
func (s *fakeServer) restart() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	clear(s.live)
}

func (s *fakeServer) set(change func(s *fakeServer)) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	change(s)
}

// answer writes a response as JSON or as a stream.
func (s *fakeServer) answer(w http.ResponseWriter, message string) {
	if !s.streams {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, message)
		return
	}
	w.Header().Set("Content-Type", eventStream)
	_, _ = fmt.Fprintf(w, "id: e-0\ndata: \n\n: comment\n\nid: e-1\nevent: message\ndata: %s\n\n", message)
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mutex.Lock()
	s.seen = append(s.seen, r.Header.Clone())
	during := s.during
	s.mutex.Unlock()
	if during != nil && during(w, r) {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	message, _ := rpc.Parse(body)
	id := r.Header.Get("Mcp-Session-Id")
	_, isLive := s.live[id]
	switch {
	case r.URL.Path == "/sse" || r.URL.Path == "/post/here":
		s.serveSSE(w, r, message)
	case r.URL.Path != "/mcp" && r.URL.Path != "/":
		http.NotFound(w, r)
	case s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token:
		w.Header().Set("Www-Authenticate", `Bearer resource_metadata="x"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case r.Header.Get("Mcp-Protocol-Version") >= rpc.Modern:
		s.calls++
		s.answer(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"session":%q}}`, message.ID, id))
	case message.Method == "initialize":
		s.initialize(w, message)
	case id == "" && s.stateless, isLive:
		s.serve(w, r, id, message)
	default:
		http.Error(w, s.lostBody, s.lostStatus)
	}
}

func (s *fakeServer) initialize(w http.ResponseWriter, message rpc.Message) {
	s.initials = append(s.initials, string(message.Raw))
	s.opened++
	if !s.stateless {
		id := fmt.Sprintf("server/%d", s.opened)
		s.live[id] = 0
		w.Header().Set("Mcp-Session-Id", id)
	}
	if s.refuses {
		s.answer(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"never"}}`, message.ID))
		return
	}
	version, _ := rpc.GetString(message.Params, "protocolVersion")
	s.answer(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{}}}`, message.ID, version))
}

func (s *fakeServer) serve(w http.ResponseWriter, r *http.Request, id string, message rpc.Message) {
	switch {
	case r.Method == http.MethodDelete:
		delete(s.live, id)
		s.deleted = append(s.deleted, id)
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", eventStream)
		_, _ = fmt.Fprintf(w, "id: g-1\ndata: {\"after\":%q}\n\n", r.Header.Get("Last-Event-Id"))
		_ = http.NewResponseController(w).Flush()
		s.mutex.Unlock()
		<-r.Context().Done()
		s.mutex.Lock()
	case message.Kind == rpc.Request:
		s.calls++
		s.live[id]++
		w.Header().Set("Mcp-Session-Id", id)
		s.answer(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"session":%q,"calls":%d}}`, message.ID, id, s.live[id]))
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// serveSSE serves HTTP+SSE.
func (s *fakeServer) serveSSE(w http.ResponseWriter, r *http.Request, message rpc.Message) {
	if r.Method == http.MethodPost {
		s.calls++
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "%s of %s", message.Method, r.URL.RawQuery)
		return
	}
	w.Header().Set("Content-Type", eventStream)
	_, _ = io.WriteString(w, ": hello\n\nevent: endpoint\r\ndata: /post/here?session_id=abc&x=%20\r\n\r\nevent: message\ndata: {\"first\":1}\n\n")
	_ = http.NewResponseController(w).Flush()
	s.mutex.Unlock()
	<-r.Context().Done()
	s.mutex.Lock()
}

// reply is the answer to a request of a client.
type reply struct {
	status int
	header http.Header
	text   string
	err    error
}

func (r reply) session() string { return r.header.Get("Mcp-Session-Id") }

// member returns a member of the result.
func (r reply) member(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(r.text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "data:")
		var message struct{ Result map[string]any }
		if json.Unmarshal([]byte(line), &message) == nil && message.Result != nil {
			return fmt.Sprint(message.Result[name])
		}
	}
	t.Fatalf("no result: %+v", r)
	return ""
}

// send sends a request to the front. Each header is a name and a value.
func (s *fakeServer) send(ctx context.Context, method, path, id, body string, headers ...string) reply {
	response, err := s.begin(ctx, method, path, id, body, headers...)
	if err != nil {
		return reply{err: err}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, strings.TrimSpace(string(content)), err}
}

// begin sends a request to the front and returns when the header of the response is there.
func (s *fakeServer) begin(ctx context.Context, method, path, id, body string, headers ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.front.URL+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if request.Header.Set("Content-Type", "application/json"); id != "" {
		request.Header.Set("Mcp-Session-Id", id)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return http.DefaultTransport.RoundTrip(request)
}

const (
	initializeMessage = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"sampling":{}},"clientInfo":{"name":"c","version":"1"}}}`
	callMessage       = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}`
)

// open opens a session and returns its id.
func (s *fakeServer) open(headers ...string) string {
	s.t.Helper()
	got := s.send(s.t.Context(), http.MethodPost, "/mcp", "", initializeMessage, headers...)
	if got.status != http.StatusOK || got.session() == "" {
		s.t.Fatalf("no session: %+v", got)
	}
	if accepted := s.send(s.t.Context(), http.MethodPost, "/mcp", got.session(), session.Initialized, headers...); accepted.status != http.StatusAccepted {
		s.t.Fatalf("got %+v", accepted)
	}
	return got.session()
}

func (s *fakeServer) call(id string, headers ...string) reply {
	return s.send(s.t.Context(), http.MethodPost, "/mcp", id, callMessage, headers...)
}

// freeAddress returns an address at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	return listener.Addr().String()
}
