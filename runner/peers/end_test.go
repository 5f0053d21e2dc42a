package peers

import (
	"context"
	"net/http"
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
