package upstream

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

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

func TestARequestThatWaitsForASessionThatAnotherEndsIsNotFound(t *testing.T) {
	s := newServer(t, func(_ *fakeServer, c *Config, _ *Front) { c.Target = &url.URL{Scheme: "http", Host: freeAddress(t)} })
	record := session.New(9, 9)
	record.Version = rpc.Polling
	if err := s.sessions.Take(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	answer := make(chan reply)
	go func() { answer <- s.call(record.ID()) }()
	select {
	case got := <-answer:
		t.Fatalf("got %+v", got)
	case <-time.After(2 * waitInterval):
	}
	s.send(t.Context(), http.MethodDelete, "/mcp", record.ID(), "")
	if got := <-answer; got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

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
