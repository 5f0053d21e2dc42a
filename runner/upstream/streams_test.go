package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

func TestAStreamPassesEventByEventWithItsIDs(t *testing.T) {
	s := newServer(t)
	id := s.open()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	response, err := s.begin(ctx, http.MethodGet, "/mcp", id, "", "Last-Event-ID", "g-0")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for _, want := range []string{"id: g-1", `data: {"after":"g-0"}`} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
	}
}

func TestASilentStreamGetsComments(t *testing.T) {
	s := newServer(t, func(_ *fakeServer, _ *Config, f *Front) { f.Limits.KeepAlive = 5 * time.Millisecond })
	id := s.open()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	response, err := s.begin(ctx, http.MethodGet, "/mcp", id, "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	want := "id: g-1\ndata: {\"after\":\"\"}\n\n" + keepAliveComment + keepAliveComment
	got := make([]byte, len(want))
	if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestASlowReaderSlowsTheServerDown(t *testing.T) {
	s := newServer(t)
	id := s.open()
	var mutex sync.Mutex
	sent, stopped := 0, make(chan struct{})
	piece := []byte("data: " + strings.Repeat("x", 64<<10) + "\n\n")
	s.set(func(s *fakeServer) {
		s.during = func(w http.ResponseWriter, _ *http.Request) bool {
			defer close(stopped)
			w.Header().Set("Content-Type", eventStream)
			for {
				if _, err := w.Write(piece); err != nil {
					return true
				}
				mutex.Lock()
				sent += len(piece)
				mutex.Unlock()
			}
		}
	})
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(connection, "GET /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: %s\r\n\r\n", id)
	before, same := 0, 0
	waittest.Eventually(t, "the server waits for the reader", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		if same++; sent == 0 || sent != before {
			same = 0
		}
		before = sent
		return same > 30
	})
	if before > 64<<20 {
		t.Errorf("%d bytes were sent", before)
	}
	_ = connection.Close()
	<-stopped
}

func TestTheEventsOfALostSessionAreNotAskedFor(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.restart()
	s.set(func(s *fakeServer) {
		s.during = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Last-Event-Id") == "" || r.Header.Get("Mcp-Session-Id") == "server/1" {
				return false
			}
			http.Error(w, "Invalid event ID format", http.StatusBadRequest)
			return true
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	response, err := s.begin(ctx, http.MethodGet, "/mcp", id, "", "Last-Event-ID", "g-9")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || s.opened != 2 {
		t.Errorf("status %d, opened %d times", response.StatusCode, s.opened)
	}
}

func TestASessionOfHTTPWithSSE(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	response, err := s.begin(ctx, http.MethodGet, "/sse", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	var lines []string
	for range 8 {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	endpoint, isData := strings.CutPrefix(lines[3], "data: messages?sessionId=")
	want := []string{": hello", "", "event: endpoint", lines[3], "", "event: message", `data: {"first":1}`, ""}
	if _, err := session.Parse(endpoint); err != nil || !isData || !slices.Equal(lines, want) {
		t.Fatalf("got %q, %v", lines, err)
	}
	for _, message := range []string{initializeMessage, callMessage} { // the stream has opened the session, not initialize
		got := s.send(t.Context(), http.MethodPost, "/messages?sessionId="+endpoint, "", message)
		if got.status != http.StatusAccepted || !strings.HasSuffix(got.text, " of session_id=abc&x=%20") {
			t.Errorf("got %+v", got)
		}
	}
	cancel()
	waittest.Eventually(t, "the end of the session", func() bool { return s.sessions.State(endpoint) == session.Ended })
	if got := s.send(t.Context(), http.MethodPost, "/messages?sessionId="+endpoint, "", callMessage); got.status != http.StatusNotFound || s.calls != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestTheEndpointOfAServerIsAlwaysOnTheServer(t *testing.T) {
	s := newServer(t)
	c := &call{front: &Front{Sessions: s.sessions}, r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/a/sse", nil)}
	for endpoint, want := range map[string]string{
		"/messages/?session_id=1":                "/messages/?session_id=1",
		"messages?sessionId=1":                   "/a/messages?sessionId=1",
		"http://metadata.example/latest?x=1":     "/latest?x=1",
		"//metadata.example/latest":              "/latest",
		"http://user:password@other.example:1/p": "/p",
	} {
		got, err := c.resolve(endpoint)
		if err != nil || got.String() != s.http.URL+want {
			t.Errorf("%s: got %v, %v", endpoint, got, err)
		}
	}
}

func TestAStreamWithoutAnEndpointIsAnError(t *testing.T) {
	for name, text := range map[string]string{"none": "data: x\n\n", "endless": "data: " + strings.Repeat("x", 1<<20)} {
		s := newServer(t)
		s.set(func(s *fakeServer) {
			s.during = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", eventStream)
				_, _ = io.WriteString(w, text)
				return true
			}
		})
		got := s.send(t.Context(), http.MethodGet, "/sse", "", "")
		if got.status != http.StatusBadGateway {
			t.Errorf("%s: got %+v", name, got)
		}
		waittest.Eventually(t, "no session", s.isEmpty)
	}
}
