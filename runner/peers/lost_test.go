package peers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

func TestASessionThatLostItsPodIsTakenOnceAndByTheSamePod(t *testing.T) {
	s := newSet(t, 4, true)
	for range 20 {
		id := s.pods[3].open()
		if id == "" {
			t.Fatal("no session")
		}
		s.pods[3].mutex.Lock()
		delete(s.pods[3].sessions, id) // let go, as in draining
		s.pods[3].stops = true
		s.pods[3].mutex.Unlock()
		var clients sync.WaitGroup
		answers := make([]answerTo, 12)
		for i := range answers {
			clients.Go(func() { answers[i] = s.pods[uint16(i%3)].send(t.Context(), http.MethodPost, id, "x") })
		}
		clients.Wait()
		taker := answers[0].text
		if taker == "" {
			t.Fatalf("got %+v", answers[0])
		}
		for _, got := range answers {
			if got.status != http.StatusOK || got.text[:5] != taker[:5] {
				t.Errorf("got %+v, want it by %s", got, taker[:5])
			}
		}
	}
	taken := 0
	for _, p := range s.all() {
		taken += p.taken
	}
	if taken != 20 {
		t.Errorf("20 sessions were taken %d times", taken)
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

func TestASessionStaysWithItsTakerWhenPodsAreAdded(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	first := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
	for ordinal := range uint16(8) {
		if ordinal >= 2 {
			s.add(ordinal)
		}
	}
	s.refresh()
	for ordinal := range uint16(8) {
		got := s.pods[ordinal].send(t.Context(), http.MethodPost, id, "x")
		if got.status != http.StatusOK || got.text[:5] != first.text[:5] {
			t.Errorf("through pod %d: got %+v, want it by %s", ordinal, got, first.text)
		}
	}
}

func TestTheWinnerChangesOnlyForTheSessionsOfALostPod(t *testing.T) {
	all := []uint16{0, 1, 2, 3, 4}
	counts := map[uint16]int{}
	for i := range 5000 {
		id := session.New(9, uint32(i)).ID()
		before := rank(id, all)[0]
		counts[before]++
		if after := rank(id, []uint16{4, 2, 0, 1})[0]; before != 3 && after != before {
			t.Fatalf("pod 3 is gone, and a session of pod %d moves to %d", before, after)
		}
	}
	for ordinal, count := range counts {
		if count < 800 || count > 1200 {
			t.Errorf("pod %d wins %d of 5000", ordinal, count)
		}
	}
}

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
	waittest.Eventually(t, "a request that waits", func() bool {
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
	waittest.Eventually(t, "one place", func() bool { return len(s.places(id)) == 1 })
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
		s.remove(s.pods[0])
		s.mutex.Lock()
		s.fails = errNoDNS
		s.mutex.Unlock()
		s.add(0)
		if got := s.pods[0].call(t, id); got.status != http.StatusServiceUnavailable || len(s.places(id)) != 1 {
			t.Errorf("got %+v", got)
		}
		s.mutex.Lock()
		s.fails = nil
		s.mutex.Unlock()
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

func TestASessionEndsWithItsPodIfItIsNotRecreated(t *testing.T) {
	s := newSet(t, 2, false)
	id := s.pods[1].open()
	s.pods[0].send(t.Context(), http.MethodPost, "", initialize) // reads the list
	s.kill(1)
	s.mutex.Lock()
	s.gone = nil
	s.mutex.Unlock()
	s.refresh()
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestASessionOfAPodThatDoesNotAnswerIsNotSaidToHaveEnded(t *testing.T) {
	s := newSet(t, 2, false)
	id := s.pods[1].open()
	s.kill(1) // DNS still has it
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusServiceUnavailable {
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

func TestAPodThatWasNeverListedIsGoneWhenItDoesNotAnswer(t *testing.T) {
	s := newSet(t, 1, false)
	s.mutex.Lock()
	s.unlisted[1] = true
	s.mutex.Unlock()
	s.add(1)
	id := s.pods[1].open()
	s.remove(s.pods[1])
	waittest.Eventually(t, "status 404", func() bool {
		s.refresh()
		return s.pods[0].call(t, id).status == http.StatusNotFound
	})
}
