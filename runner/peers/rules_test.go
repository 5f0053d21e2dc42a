package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mcpserver-operator/runner/session"
)

// by returns the ordinal of the pod that has answered a call.
func (a answerTo) by(t *testing.T) uint16 {
	t.Helper()
	var ordinal uint16
	if _, err := fmt.Sscanf(a.text, "pod %d call", &ordinal); err != nil || a.status != http.StatusOK {
		t.Fatalf("no pod has answered: %+v", a)
	}
	return ordinal
}

func (p *pod) call(t *testing.T, id string, headers ...string) answerTo {
	t.Helper()
	return p.send(t.Context(), http.MethodPost, id, "x", headers...)
}

// A. Where a request of a session goes.

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

func TestASessionOfAnEarlierPodWithThisOrdinalIsRecreated(t *testing.T) {
	s := newSet(t, 1, true)
	id := s.pods[0].open()
	s.kill(0)
	s.add(0)
	if got := s.pods[0].call(t, id); got.by(t) != 0 || s.pods[0].taken != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestASessionOfAnEarlierPodWithThisOrdinalIsUsedWhereItWasTaken(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[0].open()
	s.kill(0)
	taker := s.pods[1].call(t, id).by(t)
	s.add(0)
	s.refresh()
	if got := s.pods[0].call(t, id); got.by(t) != taker {
		t.Errorf("got %+v, want it by %d", got, taker)
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

func TestASessionThatHasEndedElsewhereIsNotFoundAndThatIsRemembered(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	s.pods[1].End(id)
	if got := s.pods[0].call(t, id); got.status != http.StatusNotFound || s.pods[0].State(id) != session.Ended {
		t.Errorf("got %+v, and the state is %v", got, s.pods[0].State(id))
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

func TestWithEndNobodyTakesASessionWhateverAHeaderSays(t *testing.T) {
	s := newSet(t, 1, false)
	record := session.New(7, 7)
	record.Version = "2025-11-25"
	if got := s.pods[0].call(t, record.ID(), ForwardedHeader, "7 take"); got.status != http.StatusMisdirectedRequest {
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

// B. A session whose pod is lost.

func TestAPodThatIsNotTheFirstTakesTheSessionIfTheFirstIsFull(t *testing.T) {
	s := newSet(t, 3, true)
	for range 10 {
		id := s.pods[2].open()
		s.pods[2].Drop(id)
		first := rank(id, []uint16{0, 1, 2})[0]
		second := rank(id, []uint16{0, 1, 2})[1]
		s.pods[first].set(func(p *pod) { p.most = len(p.sessions) })
		if got := s.pods[0].call(t, id); got.by(t) != second {
			t.Errorf("got %+v, want it by %d", got, second)
		}
		s.pods[first].set(func(p *pod) { p.most = 1000 })
	}
}

func TestAPodThatDrainsLetsItsSessionsGoAndDoesNotTakeThem(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[1].open()
	s.pods[1].stop()
	for ordinal := range uint16(3) {
		if got := s.pods[ordinal].call(t, id); got.by(t) == 1 {
			t.Errorf("through pod %d: got %+v", ordinal, got)
		}
	}
	if places := s.places(id); len(places) != 1 {
		t.Errorf("the session is in %v", places)
	}
}

func TestIfAllPodsAreFullALostSessionIsUnavailableAndNotGone(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	s.kill(1)
	s.pods[0].set(func(p *pod) { p.most = 0 })
	got := s.pods[0].call(t, id)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("got %+v", got)
	}
	s.pods[0].set(func(p *pod) { p.most = 1 })
	if got := s.pods[0].call(t, id); got.by(t) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestAServerThatCannotGoOnIsNotTriedOnAllPods(t *testing.T) {
	s := newSet(t, 4, true)
	id := s.pods[3].open()
	s.kill(3)
	var tries atomic.Int32
	for _, p := range s.all() {
		p.set(func(p *pod) {
			p.onTake = func(context.Context) error {
				tries.Add(1)
				return errors.New("the server does not start")
			}
		})
	}
	if got := s.pods[0].call(t, id); got.status != http.StatusBadGateway || tries.Load() != 1 {
		t.Errorf("got %+v after %d tries", got, tries.Load())
	}
}

// Each pod is told to take the session at the same time, as if the pods saw different peers.
func TestPodsThatDisagreeAboutTheWinnerEndWithOnePlace(t *testing.T) {
	s := newSet(t, 4, true)
	for range 50 {
		record := session.New(9, 9)
		record.Version = "2025-11-25"
		id := record.ID()
		var requests sync.WaitGroup
		var served atomic.Int32
		for _, p := range s.all() {
			for range 2 {
				requests.Go(func() {
					if got := p.call(t, id, ForwardedHeader, "9 take"); got.status == http.StatusOK {
						served.Add(1)
					} else if got.status != http.StatusMisdirectedRequest {
						t.Errorf("got %+v", got)
					}
				})
			}
		}
		requests.Wait()
		if places := s.places(id); len(places) != 1 || served.Load() == 0 {
			t.Fatalf("the session is in %v, %d requests were served", places, served.Load())
		}
	}
}

func TestARequestWaitsWhileAnotherPodRecreatesItsSession(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	taker := rank(id, []uint16{0, 1})[0]
	begun, goOn := make(chan struct{}), make(chan struct{})
	s.pods[taker].set(func(p *pod) {
		p.onTake = func(context.Context) error { close(begun); <-goOn; return nil } // called once, else it panics
	})
	answers := make(chan answerTo, 8)
	go func() { answers <- s.pods[0].call(t, id) }()
	<-begun
	for i := range 7 {
		go func() { answers <- s.pods[uint16(i%2)].call(t, id) }()
	}
	// The others are at the pod that recreates the session.
	eventually(t, "a request that waits", func() bool {
		a, err := s.pods[1-taker].router.ask(t.Context(), s.pods[taker].peer(), id)
		return err == nil && a.State == stateLive
	})
	forwarded := make(chan answerTo)
	go func() { forwarded <- s.pods[taker].call(t, id, ForwardedHeader, "9") }() // from a pod that was told that the session is live
	select {
	case got := <-forwarded:
		t.Errorf("got %+v before the session is live", got)
	case <-time.After(300 * time.Millisecond):
	}
	close(goOn)
	for range 8 {
		if got := <-answers; got.by(t) != taker {
			t.Errorf("got %+v", got)
		}
	}
	if got := <-forwarded; got.by(t) != taker {
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
		eventually(t, name+": the session has ended", func() bool { return len(s.places(id)) == 0 && s.pods[taker].State(id) == session.Ended })
		if name == "another pod tells" && got.status != http.StatusNotFound {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := s.pods[0].call(t, id); got.status != http.StatusNotFound {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestAPodThatCouldNotBeAskedLetsTheSessionGoWhenItIsBack(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.pods[2].set(func(p *pod) {
		p.onManage = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	})
	s.pods[2].set(func(p *pod) { p.during = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) } })
	// The pod has the session, but no other pod can reach it. A GET may be sent again.
	if got := s.pods[0].send(t.Context(), http.MethodGet, id, ""); got.by(t) == 2 {
		t.Fatalf("got %+v", got)
	}
	if places := s.places(id); len(places) != 2 {
		t.Fatalf("the session is in %v", places)
	}
	s.pods[2].set(func(p *pod) { p.onManage, p.during = nil, nil })
	eventually(t, "one place", func() bool { return len(s.places(id)) == 1 })
	if got := s.pods[2].call(t, id); got.by(t) == 2 {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatDoesNotKnowTheOthersTakesNoSession(t *testing.T) {
	for _, recreate := range []bool{true, false} {
		s := newSet(t, 3, recreate)
		id := s.pods[2].open()
		s.pods[2].Drop(id)
		s.pods[1].put(id)
		s.fails = errNoDNS
		if got := s.pods[0].call(t, id); got.status != http.StatusServiceUnavailable || len(s.places(id)) != 1 {
			t.Errorf("got %+v", got)
		}
		s.fails = nil
		s.refresh()
		if got := s.pods[0].call(t, id); got.by(t) != 1 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPodThatDNSDoesNotListYetIsAlone(t *testing.T) {
	s := newSet(t, 1, true)
	s.fails = &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}
	record := session.New(0, 0)
	record.Version = "2025-11-25"
	if got := s.pods[0].call(t, record.ID()); got.by(t) != 0 {
		t.Errorf("got %+v", got)
	}
}

// C. The end of a session.

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
	eventually(t, "the notice", func() bool { return s.pods[2].State(id) == session.Ended })
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
	eventually(t, "no notice", func() bool { return pending() == 0 })
	eventually(t, "nobody waits", func() bool {
		notices.mutex.Lock()
		defer notices.mutex.Unlock()
		return !notices.isRunning
	})
}

// D. A call is carried out once.

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

// E. Peers that are slow, or are none.

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

// The address of a pod that is gone may be that of another pod before DNS forgets it.
func TestAnAddressThatAnotherProgramHasGotIsNotUsed(t *testing.T) {
	foreign := newSet(t, 1, true)
	foreign.pods[0].router.config.Set = "other"
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "welcome") }))
	defer program.Close()
	for _, address := range []string{program.Listener.Addr().String(), foreign.pods[0].peer().Address} {
		s := newSet(t, 1, true)
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
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK || len(foreign.pods[0].sessions) != 0 {
			t.Errorf("got %+v", got)
		}
	}
}

// F. New sessions.

func TestANewSessionOfHTTPWithSSEIsPlacedAsAnyOther(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	got := s.pods[0].sendTo(t.Context(), "/sse", http.MethodGet, "", "")
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestANewSessionGoesToTheNextPodIfTheFirstIsGone(t *testing.T) {
	s := newSet(t, 3, true)
	if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // the loads are known
		t.Fatalf("got %+v", got)
	}
	s.kill(0)
	got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize)
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestANewSessionGoesToTheNextPodIfTheFirstHasJustBecomeFull(t *testing.T) {
	s := newSet(t, 3, true)
	if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // the loads are known
		t.Fatalf("got %+v", got)
	}
	s.pods[0].set(func(p *pod) { p.most = 1 })
	got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize)
	if record, err := session.Parse(got.id); err != nil || record.Ordinal != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatIsAloneOpensSessions(t *testing.T) {
	s := newSet(t, 1, true)
	s.fails = errNoDNS
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.id == "" {
		t.Errorf("got %+v", got)
	}
}

// G. Memory and metrics.

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
