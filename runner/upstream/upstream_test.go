package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// both runs a test with a server that answers with JSON, and with one that answers with streams.
func both(t *testing.T, test func(t *testing.T, answers setUp)) {
	for name, streams := range map[string]bool{"JSON": false, "streams": true} {
		t.Run(name, func(t *testing.T) { test(t, func(s *fakeServer, _ *Config, _ *Front) { s.streams = streams }) })
	}
}

// A. Ids

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
		eventually(t, "no session", s.isEmpty)
	})
}

func TestAServerThatRefusesToOpenASessionGivesTheClientNoID(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers, func(s *fakeServer, _ *Config, _ *Front) { s.refuses = true })
		got := s.send(t.Context(), http.MethodPost, "/mcp", "", initializeMessage)
		if got.session() != "" || !strings.Contains(got.text, "never") {
			t.Errorf("got %+v", got)
		}
		eventually(t, "no session", s.isEmpty)
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

// B. Sessions that are lost

func TestASessionThatTheServerHasLostIsOpenedAgainAndTheCallRepeated(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers)
		id := s.open()
		s.restart()
		got := s.call(id)
		if got.session() != id || got.member(t, "session") != "server/2" || got.member(t, "calls") != "1" || s.calls != 1 {
			t.Errorf("%d calls, got %+v", s.calls, got)
		}
		if len(s.initials) != 2 || s.initials[1] != s.initials[0] {
			t.Errorf("the server was initialized with %v", s.initials)
		}
	})
}

func TestAServerThatSaysWithStatus400ThatItHasLostASession(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`, "Session not found",
	} {
		s := newServer(t, func(s *fakeServer, _ *Config, _ *Front) { s.lostStatus, s.lostBody = http.StatusBadRequest, body })
		id := s.open()
		s.restart()
		if got := s.call(id); got.member(t, "session") != "server/2" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAnyOtherStatus400IsForTheClient(t *testing.T) {
	s := newServer(t, func(s *fakeServer, _ *Config, _ *Front) {
		s.lostStatus, s.lostBody = http.StatusBadRequest, "Bad Request: what?"
	})
	id := s.open()
	s.restart()
	if got := s.call(id); got.status != http.StatusBadRequest || got.text != "Bad Request: what?" || s.opened != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestWithEndALostSessionIsNotFound(t *testing.T) {
	s := newServer(t, func(s *fakeServer, _ *Config, f *Front) {
		f.Recreate, s.lostStatus, s.lostBody = false, http.StatusBadRequest, "Session not found"
	})
	id := s.open()
	s.restart()
	if got := s.call(id); got.status != http.StatusNotFound || s.opened != 1 || s.sessions.State(id) != session.Ended {
		t.Errorf("got %+v", got)
	}
}

func TestARequestThatLearnsLateThatASessionWasLostDoesNotOpenItAgain(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.restart()
	one, _ := s.sessions.Peek(id)
	for range 2 {
		if err := one.reopen(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if s.opened != 2 {
		t.Errorf("opened %d times", s.opened)
	}
}

func TestTheRequestsOfTheRunnerHaveTheCredentialsOfTheClientAndNothingOfOneRequest(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.restart()
	s.call(id, "Authorization", "a", "X-Api-Key", "k", "Mcp-Runner-Forwarded", "1", "Idempotency-Key", "i", "Mcp-Name", "x", "Connection", "X-Hop", "X-Hop", "h")
	for _, seen := range s.seen[len(s.seen)-3:] { // initialize, notifications/initialized, the call
		if seen.Get("Authorization") != "a" || seen.Get("X-Api-Key") != "k" || seen.Get("Mcp-Runner-Forwarded") != "" || seen.Get("X-Hop") != "" {
			t.Errorf("the server has seen %v", seen)
		}
	}
	for _, seen := range s.seen[len(s.seen)-3 : len(s.seen)-1] {
		if seen.Get("Idempotency-Key") != "" || seen.Get("Mcp-Name") != "" {
			t.Errorf("the server has seen %v", seen)
		}
	}
}

func TestConcurrentCallsOpenALostSessionOnce(t *testing.T) {
	s := newServer(t)
	id := s.open()
	s.restart()
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			if got := s.call(id); got.status != http.StatusOK {
				t.Errorf("got %+v", got)
			}
		})
	}
	clients.Wait()
	if s.opened != 2 || s.calls != 10 {
		t.Errorf("opened %d times, %d calls", s.opened, s.calls)
	}
}

func TestAStatus404OfAnotherPathDoesNotReplaceTheSession(t *testing.T) {
	s := newServer(t)
	id := s.open()
	if got := s.send(t.Context(), http.MethodPost, "/other", id, callMessage); got.status != http.StatusNotFound || s.opened != 1 {
		t.Errorf("opened %d times, got %+v", s.opened, got)
	}
}

func TestASessionOfAnotherPodIsOpenedByItsFirstRequestWithTheCredentialsOfTheClient(t *testing.T) {
	both(t, func(t *testing.T, answers setUp) {
		s := newServer(t, answers, func(s *fakeServer, _ *Config, _ *Front) { s.token = "secret" })
		record := session.New(9, 9)
		record.Version, record.Capabilities = rpc.Polling, session.CapabilitiesOf([]byte(`{"roots":{}}`))
		if err := s.sessions.Take(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		got := s.call(record.ID())
		if got.status != http.StatusUnauthorized || got.header.Get("Www-Authenticate") == "" {
			t.Errorf("without a token: got %+v", got)
		}
		got = s.call(record.ID(), "Authorization", "Bearer secret")
		if got.session() != record.ID() || got.member(t, "calls") != "1" {
			t.Errorf("got %+v", got)
		}
		params := []byte(s.initials[0])
		if version, _ := rpc.GetString(params, "params", "protocolVersion"); version != rpc.Polling || string(rpc.Get(params, "params", "capabilities")) != `{"roots":{}}` {
			t.Errorf("the server was initialized with %s", params)
		}
	})
}

func TestATakenSessionIsTakenOnceAndNotAfterItsEnd(t *testing.T) {
	s := newServer(t)
	record := session.New(9, 9)
	record.Version = rpc.Polling
	for range 2 {
		if err := s.sessions.Take(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if open, _, _ := s.sessions.Load(); open != 1 {
		t.Errorf("%d sessions", open)
	}
	s.sessions.End(record.ID())
	if err := s.sessions.Take(t.Context(), record); err == nil {
		t.Error("it was taken")
	}
}

func TestAPodThatIsAloneTakesSessionsItself(t *testing.T) {
	s := newServer(t, func(_ *fakeServer, _ *Config, f *Front) { f.TakeAbsent = true })
	record := session.New(3, 1) // before the runner was started again
	record.Version = rpc.Polling
	if got := s.call(record.ID()); got.member(t, "session") != "server/1" {
		t.Errorf("got %+v", got)
	}
}

func TestAServerThatIsNotUpYetIsUnavailable(t *testing.T) {
	address := ""
	s := newServer(t, func(_ *fakeServer, c *Config, _ *Front) {
		address = freeAddress(t)
		c.Target, c.Wait = &url.URL{Scheme: "http", Host: address}, time.Millisecond
	})
	for _, body := range []string{initializeMessage, callMessage} {
		got := s.send(t.Context(), http.MethodPost, "/mcp", "", body)
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || !strings.Contains(got.text, `"jsonrpc"`) {
			t.Errorf("got %+v", got)
		}
	}
	if err := s.sessions.Ready(t.Context()); err == nil {
		t.Error("it is ready")
	}
}

func TestARequestWaitsForAServerThatRestarts(t *testing.T) {
	for _, isTaken := range []bool{false, true} {
		s := newServer(t, func(_ *fakeServer, c *Config, _ *Front) { c.Target = &url.URL{Scheme: "http", Host: freeAddress(t)} })
		id, body := "", initializeMessage
		if isTaken {
			record := session.New(9, 9)
			record.Version = rpc.Polling
			id, body = record.ID(), callMessage
			if err := s.sessions.Take(t.Context(), record); err != nil {
				t.Fatal(err)
			}
		}
		answer := make(chan reply)
		go func() { answer <- s.send(t.Context(), http.MethodPost, "/mcp", id, body) }()
		select {
		case got := <-answer:
			t.Fatalf("got %+v", got)
		case <-time.After(2 * waitInterval):
		}
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.sessions.config.Target.Host)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: s}
		go func() { _ = server.Serve(listener) }()
		if got := <-answer; got.status != http.StatusOK || s.opened != 1 {
			t.Errorf("opened %d times, got %+v", s.opened, got)
		}
		_ = server.Close()
	}
}

// C. A call is carried out once

func TestACallWhoseAnswerIsLostIsNotRepeated(t *testing.T) {
	for name, breaks := range map[string]func(w http.ResponseWriter){
		"before the header": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"after the header": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		s := newServer(t)
		id := s.open()
		var calls atomic.Int32
		s.set(func(s *fakeServer) {
			s.during = func(w http.ResponseWriter, _ *http.Request) bool {
				calls.Add(1)
				breaks(w)
				return true
			}
		})
		got := s.call(id, "Idempotency-Key", "1")
		if calls.Load() != 1 || (got.err == nil && got.status != http.StatusBadGateway) || s.opened != 1 {
			t.Errorf("%s: %d calls, got %+v", name, calls.Load(), got)
		}
	}
}

func TestAConnectionThatTheServerHasClosedIsNotUsed(t *testing.T) {
	s := newServer(t)
	id := s.open()
	for range 20 {
		if got := s.call(id); got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
		s.http.CloseClientConnections()
	}
	if s.calls != 20 {
		t.Errorf("%d calls", s.calls)
	}
}

// D. Streams

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
	eventually(t, "the server waits for the reader", func() bool {
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

// E. The end of sessions

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
	eventually(t, "the end at the server", func() bool {
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

// F. HTTP+SSE

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
	got := s.send(t.Context(), http.MethodPost, "/messages?sessionId="+endpoint, "", callMessage)
	if got.status != http.StatusAccepted || got.text != "tools/call of session_id=abc&x=%20" {
		t.Errorf("got %+v", got)
	}
	cancel()
	eventually(t, "the end of the session", func() bool { return s.sessions.State(endpoint) == session.Ended })
	if got := s.send(t.Context(), http.MethodPost, "/messages?sessionId="+endpoint, "", callMessage); got.status != http.StatusNotFound || s.calls != 1 {
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
		eventually(t, "no session", s.isEmpty)
	}
}

// G. Readiness, and what is left behind

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
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
}
