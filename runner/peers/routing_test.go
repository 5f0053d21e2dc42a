package peers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mcpserver-operator/runner/session"
)

func TestARequestGoesToThePodThatHasTheSession(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	for i := range 3 {
		got := s.pods[uint16(i)].send(t.Context(), http.MethodPost, id, "x")
		if want := fmt.Sprintf("pod 2 call %d of x", i+1); got.text != want {
			t.Errorf("through pod %d: got %+v, want %q", i, got, want)
		}
	}
}

func TestAPodThatBeginsToDrainKeepsTheSessionOfARequestThatHasArrived(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[0].open()
	s.pods[0].set(func(p *pod) { p.before = p.stop })
	for via := range uint16(2) {
		if got := s.pods[via].call(t, id); got.by(t) != via {
			t.Errorf("through pod %d: got %+v", via, got)
		}
		s.pods[0].stop()
	}
}

func TestASessionOfAPodThatDNSDoesNotListYetIsFound(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.unlisted[2] = true
	if got := s.pods[0].call(t, id); got.by(t) != 2 {
		t.Errorf("got %+v", got)
	}
	if places := s.places(id); !slices.Equal(places, []uint16{2}) {
		t.Errorf("the session is in %v", places)
	}
}

func TestARememberedPlaceThatIsWrongIsForgotten(t *testing.T) {
	s := newSet(t, 4, true)
	id := s.pods[3].open()
	s.pods[3].Drop(id)
	s.pods[1].put(id)
	if got := s.pods[0].call(t, id); got.by(t) != 1 {
		t.Fatalf("got %+v", got)
	}
	if ordinal, isKnown := s.pods[0].router.locations.get(id); !isKnown || ordinal != 1 {
		t.Errorf("the place is not remembered")
	}
	s.pods[1].Drop(id)
	s.pods[2].put(id)
	if got := s.pods[0].call(t, id); got.by(t) != 2 {
		t.Errorf("got %+v", got)
	}
	if places := s.places(id); len(places) != 1 {
		t.Errorf("the session is in %v", places)
	}
}

func TestTheMemoryOfPlacesIsBounded(t *testing.T) {
	l := newLocations()
	l.set("first", 1)
	l.set("second", 2)
	for i := range mostLocations - 1 {
		l.get("first") // used lately
		l.set(fmt.Sprint(i), 3)
	}
	if _, isKnown := l.get("second"); isKnown || l.recent.Len() != mostLocations || len(l.byID) != mostLocations {
		t.Errorf("%d places are remembered", l.recent.Len())
	}
	if ordinal, isKnown := l.get("first"); !isKnown || ordinal != 1 {
		t.Error("a place that was used lately is forgotten")
	}
}

func TestASessionThatHasEndedHereIsNotFound(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[0].open()
	s.pods[0].End(id)
	s.pods[1].set(func(p *pod) {
		p.onManage = func(http.ResponseWriter, *http.Request) bool {
			t.Error("another pod is asked")
			return false
		}
	})
	if got := s.pods[0].call(t, id); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestASessionThatHasEndedElsewhereIsNotFoundAndThatIsRemembered(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	s.pods[1].End(id)
	if got := s.pods[0].call(t, id); got.status != http.StatusNotFound || s.pods[0].State(id) != session.Ended {
		t.Errorf("got %+v, and the state is %v", got, s.pods[0].State(id))
	}
}

func TestAForwardedRequestIsNotForwardedAgain(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	if got := s.pods[0].call(t, id, ForwardedHeader, "7"); got.status != http.StatusMisdirectedRequest || s.pods[1].calls(id) != 0 {
		t.Errorf("got %+v, %d calls", got, s.pods[1].calls(id))
	}
}

func TestAForwardedRequestWithoutTheWordTakeDoesNotRecreate(t *testing.T) {
	s := newSet(t, 1, true)
	id := session.New(7, 7)
	id.Version = "2025-11-25"
	got := s.pods[0].call(t, id.ID(), ForwardedHeader, "7")
	if got.status != http.StatusMisdirectedRequest || got.header.Get(AbsentHeader) == "" {
		t.Errorf("got %+v", got)
	}
	if got := s.pods[0].call(t, id.ID(), ForwardedHeader, "7 take"); got.by(t) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestASessionOfHTTPWithSSEIsRoutedByItsParameterAndNotRecreated(t *testing.T) {
	s := newSet(t, 2, true)
	record := session.New(1, 1) // without a version
	s.pods[1].put(record.ID())
	got := s.pods[0].sendTo(t.Context(), "/messages?sessionId="+record.ID(), http.MethodPost, "", "x")
	if got.by(t) != 1 {
		t.Errorf("got %+v", got)
	}
	s.kill(1)
	if got := s.pods[0].sendTo(t.Context(), "/messages?sessionId="+record.ID(), http.MethodPost, "", "x"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestARequestOfAVersionWithoutSessionsIsServedHere(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[1].set(func(p *pod) { p.during = func(http.ResponseWriter, *http.Request) { t.Error("it was forwarded") } })
	id := s.pods[1].open()
	if got := s.pods[0].call(t, id, "Mcp-Protocol-Version", "2026-07-28"); got.status != http.StatusNotFound { // what the fake front answers
		t.Errorf("got %+v", got)
	}
}

func TestARequestWithoutASessionIsServedHere(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
	if open, _, _ := s.pods[0].Load(); open != 1 {
		t.Error("it was forwarded")
	}
}

func TestAnIDThatIsNoneIsRefusedHere(t *testing.T) {
	s := newSet(t, 2, true)
	if got := s.pods[0].send(t.Context(), http.MethodPost, "guess", "x"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestAWebPageOfAnotherOriginCannotMakeAPodRecreateASession(t *testing.T) {
	s := newSet(t, 1, true)
	record := session.New(7, 7)
	record.Version = "2025-11-25"
	if got := s.pods[0].call(t, record.ID(), "Origin", "http://attacker.example"); got.status != http.StatusForbidden || s.pods[0].taken != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestARequestOverTheLimitIsRefused(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, strings.Repeat("x", int(testLimits.Body)+1)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d, %v", got.status, got.err)
	}
}

func TestAPodThatStopsGetsOnlyTheRequestsOfSessionsThatItStillHas(t *testing.T) {
	s := newSet(t, 2, true)
	stays, goes := s.pods[1].open(), s.pods[1].open()
	s.pods[1].router.Leave(t.Context())
	if got := s.pods[0].call(t, stays); got.by(t) != 1 {
		t.Errorf("got %+v", got)
	}
	s.pods[1].Drop(goes)
	s.pods[1].set(func(p *pod) {
		p.stops = true
		p.during = func(http.ResponseWriter, *http.Request) { t.Error("a request was forwarded") }
		p.before = func() { t.Error("a request was forwarded") }
	})
	s.refresh()
	for range 2 {
		if got := s.pods[0].call(t, goes); got.by(t) != 0 {
			t.Errorf("got %+v", got)
		}
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPodThatHasStartedAgainGetsRequestsAgain(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[1].router.Leave(t.Context())
	s.remove(s.pods[1])
	s.add(1)
	id := s.pods[1].open()
	s.pods[1].set(func(p *pod) {
		p.onManage = func(http.ResponseWriter, *http.Request) bool { t.Error("the pod is asked"); return false }
	})
	if got := s.pods[0].call(t, id); got.by(t) != 1 || s.pods[0].router.leaving.has(1) {
		t.Errorf("got %+v", got)
	}
}
