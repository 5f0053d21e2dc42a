package peers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mcpserver-operator/runner/session"
)

func TestACallIsNeverCarriedOutTwice(t *testing.T) {
	breaks := map[string]func(http.ResponseWriter, *http.Request){
		"before the header": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"after the header": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	for name, during := range breaks {
		s := newSet(t, 3, true)
		id := s.pods[2].open()
		s.pods[2].setDuring(during)
		got := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		total := 0
		for _, p := range s.all() {
			total += p.calls(id)
		}
		if total != 1 || (got.err == nil && got.status != http.StatusBadGateway) {
			t.Errorf("%s: %d calls, the client gets %+v", name, total, got)
		}
	}
}

func TestACallIsCarriedOutOnceByAnotherPodIfItsPodIsGone(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.pods[0].call(t, id) // there is an idle connection to the pod
	s.kill(2)
	got := s.pods[0].call(t, id)
	taker := got.by(t)
	if s.pods[taker].calls(id) != 1 || s.pods[1-taker].calls(id) != 0 {
		t.Errorf("got %+v", got)
	}
}

// The transport of Go sends a request with this header again if it can, after a connection is lost.
func TestAHeaderOfTheClientDoesNotMakeARequestBeSentTwice(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		s := newSet(t, 2, true)
		id := s.pods[1].open()
		s.pods[0].call(t, id) // the next request is on a connection that was used
		s.pods[1].setDuring(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		got := s.pods[0].call(t, id, name, "1")
		if got.status != http.StatusBadGateway || s.pods[1].calls(id) != 2 {
			t.Errorf("%s: %d calls, got %+v", name, s.pods[1].calls(id), got)
		}
	}
}

func TestALongRequestReachesTheNextPodAfterOneThatDoesNotHaveTheSession(t *testing.T) {
	s := newSet(t, 3, true)
	long := strings.Repeat("x", 6<<20)
	for range 5 {
		id := s.pods[2].open()
		s.pods[2].Drop(id)
		s.pods[1].put(id)
		got := s.pods[0].send(t.Context(), http.MethodPost, id, long)
		if got.status != http.StatusOK || !strings.HasSuffix(got.text, long) || s.pods[1].calls(id) != 1 {
			t.Fatalf("got status %d, %d bytes", got.status, len(got.text))
		}
	}
}

// The address of a pod that is gone may be that of another pod before DNS forgets it.
func TestAnAddressThatAnotherProgramHasGotIsNotUsed(t *testing.T) {
	foreign, twin := newSet(t, 1, true), newSet(t, 2, true)
	foreign.pods[0].router.config.Set = "other"
	for _, p := range twin.all() {
		p.router.config.Namespace = "other"
	}
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "welcome") }))
	defer program.Close()
	for _, address := range []string{program.Listener.Addr().String(), foreign.pods[0].peer().Address, twin.pods[1].peer().Address} {
		s := newSet(t, 1, true)
		s.pods[0].router.config.Namespace = "mine"
		s.gone = append(s.gone, Peer{1, address, foreign.pods[0].peer().Management})
		s.refresh()
		record := session.New(1, 1)
		record.Version = "2025-11-25"
		if got := s.pods[0].call(t, record.ID()); got.by(t) != 0 || got.header.Get(PodHeader) != "" || s.pods[0].calls(record.ID()) != 1 {
			t.Errorf("got %+v", got)
		}
		for range 5 { // the other address has fewer sessions
			s.pods[0].open()
		}
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK || len(foreign.pods[0].sessions)+len(twin.pods[1].sessions) != 0 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAStreamIsForwardedEventByEvent(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	next := make(chan struct{})
	s.pods[1].setDuring(func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "event %d\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.pods[0].clients.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Mcp-Session-Id", id)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("event ", i) {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
		next <- struct{}{} // the next event is written only after this one has arrived
	}
}

func TestASlowReaderSlowsTheSenderDown(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	var mutex sync.Mutex
	sent, piece := 0, make([]byte, 64<<10)
	stopped := make(chan struct{})
	s.pods[1].setDuring(func(w http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		for {
			if _, err := w.Write(piece); err != nil {
				return
			}
			mutex.Lock()
			sent += len(piece)
			mutex.Unlock()
		}
	})
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.pods[0].clients.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: %s\r\n\r\n", id)
	var before int
	for still := 0; still < 20; { // it has stopped when it did not move for 20 looks
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // there is no event for "nothing happens"
		mutex.Lock()
		if sent == before && sent > 0 {
			still++
		} else {
			still = 0
		}
		before = sent
		mutex.Unlock()
		if before > 64<<20 {
			t.Fatal("the sender does not wait for the reader")
		}
	}
	_ = connection.Close()
	<-stopped // and it ends when the client leaves
}

func TestAClientThatLeavesLeavesNothingBehind(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	begun, ended := make(chan struct{}), make(chan struct{})
	s.pods[1].setDuring(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go s.pods[0].send(ctx, http.MethodPost, id, "x")
	<-begun
	cancel()
	<-ended
}

func TestNoGoroutineIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	for range 20 {
		s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		s.pods[1].send(t.Context(), http.MethodPost, "", initialize)
	}
	for _, p := range s.all() {
		p.close()
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("there were %d goroutines and are %d", before, runtime.NumGoroutine())
		}
	}
}

func TestForwardedRequestsAreCounted(t *testing.T) {
	s := newSet(t, 3, true)
	registry := prometheus.NewPedanticRegistry()
	router := New(Config{Set: "web", Ordinal: 8, Resolver: s, Local: &pod{stops: true}, Recreate: true, Limits: testLimits, Log: s.pods[0].router.config.Log, Registerer: registry})
	defer router.Close()
	lost := s.pods[2].open()
	s.pods[2].Drop(lost)
	for _, id := range []string{s.pods[1].open(), lost, ""} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", strings.NewReader(initialize))
		request.Header.Set("Mcp-Session-Id", id)
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	}
	for _, reason := range []string{"session", "take", "new"} {
		if got := testutil.ToFloat64(router.metrics.Forwarded.WithLabelValues(reason)); got != 1 {
			t.Errorf("%s: %v", reason, got)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
}
