package peers

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

func TestTheOtherPodsKnowTheEndOfASessionBeforeTheClientDoes(t *testing.T) {
	s := newSet(t, 4, true)
	for via := range uint16(4) {
		id := s.pods[3].open()
		if got := s.pods[via].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent {
			t.Fatalf("got %+v", got)
		}
		for _, p := range s.all() {
			if p.State(id) != session.Ended {
				t.Errorf("through pod %d: pod %d does not know it", via, p.ordinal)
			}
		}
	}
}

func TestTheEndOfALostSessionRecreatesNothing(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	if got := s.pods[0].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent {
		t.Errorf("got %+v", got)
	}
	if got := s.pods[1].call(t, id); got.status != http.StatusNotFound || s.pods[0].taken+s.pods[1].taken != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestASessionThatEndsWhileItIsRecreatedStaysEnded(t *testing.T) {
	for name, end := range map[string]func(s *set, taker uint16, id string){
		"another pod tells": func(s *set, taker uint16, id string) {
			if err := s.pods[1-taker].router.send(t.Context(), s.pods[taker].peer(), notice{kind: noticeEnded, id: id}); err != nil {
				t.Error(err)
			}
		},
		"the client ends it": func(s *set, taker uint16, id string) {
			go s.pods[1-taker].send(t.Context(), http.MethodDelete, id, "")
			time.Sleep(10 * time.Millisecond) // the request may arrive before or after the session is recreated
		},
	} {
		s := newSet(t, 3, true)
		id := s.pods[2].open()
		s.kill(2)
		taker := rank(id, []uint16{0, 1})[0]
		s.pods[taker].set(func(p *pod) { p.onTake = func(context.Context) error { end(s, taker, id); return nil } })
		got := s.pods[0].call(t, id)
		waittest.Eventually(t, name+": the session has ended", func() bool { return len(s.places(id)) == 0 && s.pods[taker].State(id) == session.Ended })
		if name == "another pod tells" && got.status != http.StatusNotFound {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := s.pods[0].call(t, id); got.status != http.StatusNotFound {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestAPodThatCouldNotBeToldOfAnEndIsToldLater(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[0].open()
	s.pods[2].set(func(p *pod) {
		p.onManage = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "not now", http.StatusInternalServerError)
			return true
		}
	})
	if got := s.pods[0].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent {
		t.Fatalf("got %+v", got)
	}
	if s.pods[2].State(id) == session.Ended {
		t.Fatal("it was told")
	}
	s.pods[2].set(func(p *pod) { p.onManage = nil })
	waittest.Eventually(t, "the notice", func() bool { return s.pods[2].State(id) == session.Ended })
}

func TestNoticesForAPodThatIsGoneAreDropped(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[0].open()
	s.pods[0].call(t, id)
	s.kill(1) // DNS has it for a while
	s.refresh()
	s.pods[0].send(t.Context(), http.MethodDelete, id, "")
	notices := s.pods[0].router.notices
	pending := func() int {
		notices.mutex.Lock()
		defer notices.mutex.Unlock()
		return len(notices.pending)
	}
	if pending() != 1 {
		t.Fatalf("%d notices", pending())
	}
	s.mutex.Lock()
	s.gone = nil
	s.mutex.Unlock()
	waittest.Eventually(t, "no notice", func() bool { return pending() == 0 })
	waittest.Eventually(t, "nobody waits", func() bool {
		notices.mutex.Lock()
		defer notices.mutex.Unlock()
		return !notices.isRunning
	})
}

func TestAPodThatStartsLearnsWhichSessionsHaveEnded(t *testing.T) {
	s := newSet(t, 2, true)
	var ids []string
	for range 3 {
		ids = append(ids, s.pods[1].open())
	}
	for _, id := range ids {
		if got := s.pods[0].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent {
			t.Fatalf("got %+v", got)
		}
	}
	for ordinal := range uint16(2) { // a rollout: no pod is left that was there
		s.remove(s.pods[ordinal])
		s.add(ordinal)
	}
	for _, id := range ids {
		if got := s.pods[0].call(t, id); got.status != http.StatusNotFound {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPodThatStartsIsToldOfSessionsThatEndBeforeDNSListsIt(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[0].open()
	s.pods[0].call(t, id) // the list is known
	s.mutex.Lock()
	s.unlisted[2] = true
	s.mutex.Unlock()
	s.add(2)
	if got := s.pods[0].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent || s.pods[2].State(id) != session.Ended {
		t.Errorf("got %+v, and the state is %v", got, s.pods[2].State(id))
	}
}

func TestAPodOfAnEarlierVersionDoesNotKeepAnotherFromStartingAndStopping(t *testing.T) {
	s := newSet(t, 1, true)
	s.pods[0].set(func(p *pod) {
		p.onManage = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/sessions/ended" && r.URL.Path != "/sessions/leaving" {
				return false
			}
			http.NotFound(w, r)
			return true
		}
	})
	s.add(1)
	id := s.pods[0].open()
	if got := s.pods[1].call(t, id); got.by(t) != 0 {
		t.Errorf("got %+v", got)
	}
	s.pods[1].router.Leave(t.Context())
	if got := s.pods[1].call(t, id); got.by(t) != 0 {
		t.Errorf("after it began to stop: got %+v", got)
	}
}

func TestWhatIsNoListOfEndedSessionsIsIgnored(t *testing.T) {
	for name, body := range map[string]string{"no ids": "hello\nworld\n", "a long line": strings.Repeat("x", 1<<20), "empty": ""} {
		nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		s := newSet(t, 0, true)
		s.gone = []Peer{{9, "127.0.0.1:1", nonsense.Listener.Addr().String()}}
		s.add(0)
		if ended := s.pods[0].Ended(); len(ended) != 0 {
			t.Errorf("%s: %q have ended", name, ended)
		}
		nonsense.Close()
	}
}
