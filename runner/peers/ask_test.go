package peers

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var errNoDNS = &net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}

func TestTheLastListIsUsedWhileDNSFails(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[1].open()
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // reads the list
		t.Fatalf("got %+v", got)
	}
	s.mutex.Lock()
	s.fails = errNoDNS
	s.mutex.Unlock()
	for range 2 {
		s.refresh()
		got := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		if got.status != http.StatusOK || got.text[:5] != "pod 1" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPodThatDoesNotAnswerCostsABoundedTime(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2, true)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.gone = append(s.gone, Peer{9, "127.0.0.1:1", silent.Addr().String()})
	id := s.pods[1].open()
	s.kill(1)
	begin := time.Now()
	if got := s.pods[0].call(t, id); got.by(t) != 0 {
		t.Errorf("got %+v", got)
	}
	if duration := time.Since(begin); duration > 2*askTimeout {
		t.Errorf("it took %v", duration)
	}
}

func TestAnswersThatAreNoneAreIgnored(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "hello", "an unknown state": `{"state":"asleep","accepting":true,"max":9}`, "a negative number": `{"state":"absent","accepting":true,"sessions":-1,"max":9}`,
		"endless": `{"state":"` + strings.Repeat("x", 1<<20), "an array": `[]`, "empty": ``,
	} {
		s := newSet(t, 2, true)
		nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		s.gone = append(s.gone, Peer{9, "127.0.0.1:1", nonsense.Listener.Addr().String()})
		id := s.pods[1].open()
		s.kill(1)
		if got, err := s.pods[0].router.ask(t.Context(), s.gone[0], id); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := s.pods[0].call(t, id); got.by(t) != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Errorf("%s: got %+v", name, got)
		}
		nonsense.Close()
	}
}

func TestManagementRefusesWhatIsNoSessionID(t *testing.T) {
	s := newSet(t, 1, true)
	for _, path := range []string{"/sessions/x", "/sessions/" + strings.Repeat("0", 45), "/sessions/" + strings.Repeat("0", 5000), "/sessions/..%2f..", "/sessions/x/moved"} {
		for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPost} {
			recorder := httptest.NewRecorder()
			s.pods[0].router.Management().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			if recorder.Code < http.StatusBadRequest {
				t.Errorf("%s %s: %d", method, path, recorder.Code)
			}
		}
	}
	if len(s.pods[0].ended) != 0 {
		t.Error("an id that is none is remembered")
	}
}
