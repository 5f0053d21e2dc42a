package upstream

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

// both runs a test with a server that answers with JSON, and with one that answers with streams.

func both(t *testing.T, test func(t *testing.T, answers setUp)) {
	for name, streams := range map[string]bool{"JSON": false, "streams": true} {
		t.Run(name, func(t *testing.T) { test(t, func(s *fakeServer, _ *Config, _ *Front) { s.streams = streams }) })
	}
}

func TestTheClientGetsAnIDOfTheRunnerAndTheServerItsOwn(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers)
		id := s.open()
		record, err := session.Parse(id)
		if err != nil || record.Ordinal != 3 || record.Version != rpc.Elicitation || record.Capabilities != session.CapabilitiesOf([]byte(`{"sampling":{}}`)) {
			t.Errorf("got %+v, %v", record, err)
		}
		got := s.call(id)
		if got.session() != id || got.member(t, "session") != "server/1" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAServerWithoutSessionsGivesTheClientNone(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers, func(s *fakeServer, _ *Config, _ *Front) { s.stateless = true })
		got := s.send(t.Context(), http.MethodPost, "/mcp", "", initializeMessage)
		if got.status != http.StatusOK || got.session() != "" {
			t.Errorf("got %+v", got)
		}
		if got := s.call(""); got.status != http.StatusOK || got.member(t, "session") != "" {
			t.Errorf("got %+v", got)
		}
		waittest.Eventually(t, "no session", s.isEmpty)
	})
}

func TestAServerThatRefusesToOpenASessionGivesTheClientNoID(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers, func(s *fakeServer, _ *Config, _ *Front) { s.refuses = true })
		got := s.send(t.Context(), http.MethodPost, "/mcp", "", initializeMessage)
		if got.session() != "" || !strings.Contains(got.text, "never") {
			t.Errorf("got %+v", got)
		}
		waittest.Eventually(t, "no session", s.isEmpty)
	})
}

func TestARequestWithoutSessionsPassesUnchanged(t *testing.T) {
	s := newServer(t)
	got := s.send(t.Context(), http.MethodPost, "/mcp", "", callMessage, "Mcp-Protocol-Version", rpc.Modern, "Mcp-Method", "tools/call", "X-Other", "1")
	if got.status != http.StatusOK || got.session() != "" {
		t.Errorf("got %+v", got)
	}
	seen := s.seen[len(s.seen)-1]
	if seen.Get("Mcp-Method") != "tools/call" || seen.Get("X-Other") != "1" || seen.Get("Mcp-Protocol-Version") != rpc.Modern {
		t.Errorf("the server has seen %v", seen)
	}
}

func TestAnUnknownSessionIsNotFound(t *testing.T) {
	s := newServer(t)
	for _, id := range []string{"x", "server/1", session.New(3, 1).ID()} {
		if got := s.call(id); got.status != http.StatusNotFound || !strings.Contains(got.text, `"id":7`) {
			t.Errorf("got %+v", got)
		}
	}
}

func TestHeadersBetweenRunnersDoNotReachTheServer(t *testing.T) {
	s := newServer(t)
	s.call(s.open(), "Mcp-Runner-Forwarded", "1", "Origin", "http://localhost:1")
	seen := s.seen[len(s.seen)-1]
	if seen.Get("Accept-Encoding") != "" {
		t.Error("the runner cannot read a compressed stream")
	}
	if seen.Get("Mcp-Runner-Forwarded") != "" || seen.Get("Origin") != "" || seen.Get("X-Forwarded-Host") == "" {
		t.Errorf("the server has seen %v", seen)
	}
}

func TestAWebPageOfAnotherOriginIsRefused(t *testing.T) {
	s := newServer(t)
	if got := s.call("", "Origin", "http://attacker.example"); got.status != http.StatusForbidden || len(s.seen) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestALongRequestIsRefused(t *testing.T) {
	s := newServer(t)
	if got := s.send(t.Context(), http.MethodPost, "/mcp", "", strings.Repeat(" ", 1<<20+1)); got.status != http.StatusRequestEntityTooLarge || len(s.seen) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestAFullPodRefusesNewSessions(t *testing.T) {
	s := newServer(t, func(_ *fakeServer, c *Config, _ *Front) { c.Most = 1 })
	s.open()
	got := s.send(t.Context(), http.MethodPost, "/mcp", "", initializeMessage)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || s.opened != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestDeleteEndsBothSessions(t *testing.T) {
	s := newServer(t)
	id := s.open()
	if got := s.send(t.Context(), http.MethodDelete, "/mcp", id, ""); got.status >= 300 {
		t.Errorf("got %+v", got)
	}
	if !slices.Equal(s.deleted, []string{"server/1"}) || s.sessions.State(id) != session.Ended {
		t.Errorf("the server has ended %v", s.deleted)
	}
	if got := s.call(id); got.status != http.StatusNotFound || s.opened != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestDeleteEndsTheStreamsOfTheSession(t *testing.T) {
	s := newServer(t)
	id := s.open()
	response, err := s.begin(t.Context(), http.MethodGet, "/mcp", id, "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	s.send(t.Context(), http.MethodDelete, "/mcp", id, "")
	if content, err := io.ReadAll(response.Body); err != nil || strings.Contains(string(content), "retry") {
		t.Errorf("got %q, %v", content, err)
	}
}

func TestAClientThatClosesTheStreamOfInitializeKeepsItsSession(t *testing.T) {
	s := newServer(t)
	s.set(func(s *fakeServer) {
		s.during = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Session-Id") != "" {
				return false
			}
			s.set(func(s *fakeServer) { s.live["server/s"] = 0 })
			w.Header().Set("Mcp-Session-Id", "server/s")
			w.Header().Set("Content-Type", eventStream)
			_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-06-18\"}}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	response, err := s.begin(ctx, http.MethodPost, "/mcp", "", initializeMessage)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil {
		t.Errorf("got %q, %v", line, err)
	}
	cancel()
	_ = response.Body.Close()
	if got := s.call(response.Header.Get("Mcp-Session-Id")); got.member(t, "calls") != "1" {
		t.Errorf("got %+v", got)
	}
}

func TestDeleteOfASessionThatTheServerHasLostSucceeds(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.restart()
	if got := s.send(t.Context(), http.MethodDelete, "/mcp", id, ""); got.status != http.StatusNoContent || s.opened != 1 || s.sessions.State(id) != session.Ended {
		t.Errorf("got %+v", got)
	}
}

func TestDeleteWithoutAServerSucceeds(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.http.CloseClientConnections()
	s.http.Close()
	if got := s.send(t.Context(), http.MethodDelete, "/mcp", id, ""); got.status != http.StatusNoContent || s.sessions.State(id) != session.Ended {
		t.Errorf("got %+v", got)
	}
}

func TestAServerThatDoesNotLetClientsEndSessionsKeepsThem(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.set(func(s *fakeServer) {
		s.during = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodDelete {
				return false
			}
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return true
		}
	})
	if got := s.send(t.Context(), http.MethodDelete, "/mcp", id, ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("got %+v", got)
	}
	if got := s.call(id); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
}

func TestASessionWithOnlyAStreamIsIdleAndEndsAtTheServerToo(t *testing.T) {
	s := newServer(t, func(s *fakeServer, c *Config, _ *Front) { c.Idle, s.token = 50*time.Millisecond, "secret" })
	id := s.open("Authorization", "Bearer secret")
	response, err := s.begin(t.Context(), http.MethodGet, "/mcp", id, "", "Authorization", "Bearer secret")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.sessions.EndIdle(ctx, 5*time.Millisecond)
	content, err := io.ReadAll(response.Body)
	if err != nil || strings.Contains(string(content), "retry") {
		t.Errorf("got %q, %v", content, err)
	}
	waittest.Eventually(t, "the end at the server", func() bool {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		return slices.Equal(s.deleted, []string{"server/1"})
	})
	if got := s.call(id, "Authorization", "Bearer secret"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatDrainsLetsSessionsGoAfterTheirCallsAndItsStreamsSayWhenToComeBack(t *testing.T) {
	s := newServer(t)
	busy, idle := s.open(), s.open()
	response, err := s.begin(t.Context(), http.MethodGet, "/mcp", idle, "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewReader(response.Body)
	for line := ""; line != "\n"; { // the first event
		if line, err = stream.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	begun, goOn := make(chan struct{}), make(chan struct{})
	s.set(func(s *fakeServer) {
		s.during = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				close(begun)
				<-goOn
			}
			return false
		}
	})
	answer := make(chan reply)
	go func() { answer <- s.call(busy) }()
	<-begun
	drained := make(chan struct{})
	go func() { s.sessions.Drain(t.Context()); close(drained) }()
	content, err := io.ReadAll(stream)
	if err != nil || string(content) != retry {
		t.Errorf("the stream ends with %q, %v", content, err)
	}
	if s.sessions.State(idle) != session.Absent || s.sessions.State(busy) != session.Live {
		t.Error("the wrong session was let go")
	}
	select {
	case <-drained:
		t.Error("a call is in progress")
	default:
	}
	if got := s.send(t.Context(), http.MethodGet, "/mcp", idle, ""); got.status != http.StatusServiceUnavailable {
		t.Errorf("got %+v", got)
	}
	close(goOn)
	if got := <-answer; got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
	<-drained
}

func TestADrainThatTakesTooLongCutsCalls(t *testing.T) {
	s := newServer(t)
	id := s.open()
	begun := make(chan struct{})
	s.set(func(s *fakeServer) {
		s.during = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				close(begun)
				<-r.Context().Done()
			}
			return true
		}
	})
	answer := make(chan reply)
	go func() { answer <- s.call(id) }()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.sessions.Drain(ctx)
	if got := <-answer; got.status != http.StatusBadGateway {
		t.Errorf("got %+v", got)
	}
}

func TestAServerIsReadyWhenItAnswersAndStaysSoWhileItIsBusy(t *testing.T) {
	s := newServer(t)
	busy := make(chan struct{})
	defer close(busy)
	if err := s.sessions.Ready(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	s.set(func(s *fakeServer) {
		s.during = func(http.ResponseWriter, *http.Request) bool { <-busy; return false }
	})
	s.sessions.readiness.until = time.Time{}
	if err := s.sessions.Ready(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	_ = s.http.Listener.Close()
	s.sessions.readiness.until = time.Time{}
	if err := s.sessions.Ready(t.Context()); err == nil {
		t.Error("it is gone, and ready")
	}
}

func TestNoGoroutineIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("use", func(t *testing.T) {
		s := newServer(t, func(s *fakeServer, _ *Config, _ *Front) { s.streams = true })
		for range 5 {
			id := s.open()
			ctx, cancel := context.WithCancel(t.Context())
			if response, err := s.begin(ctx, http.MethodGet, "/mcp", id, ""); err == nil {
				defer response.Body.Close()
			}
			s.call(id)
			s.restart()
			s.call(id)
			cancel()
			s.sessions.Drop(id)
		}
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	waittest.Eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
}
