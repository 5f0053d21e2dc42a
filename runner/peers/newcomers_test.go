package peers

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"mcpserver-operator/runner/session"
)

// startTogether starts pods at the same moment, before DNS lists any of them.
func (s *set) startTogether(ordinals ...uint16) {
	s.mutex.Lock()
	for _, ordinal := range ordinals {
		s.unlisted[ordinal] = true
	}
	s.mutex.Unlock()
	var starting sync.WaitGroup
	for _, ordinal := range ordinals {
		starting.Go(func() { s.add(ordinal) })
	}
	starting.Wait()
}

// callThrough calls a session that lost its pod through several pods at the same moment.
func (s *set) callThrough(t *testing.T, id string, ordinals ...uint16) {
	t.Helper()
	var calling sync.WaitGroup
	for _, ordinal := range ordinals {
		calling.Go(func() {
			if got := s.pods[ordinal].call(t, id); got.status != http.StatusOK {
				t.Errorf("through pod %d: got %+v", ordinal, got)
			}
		})
	}
	calling.Wait()
}

// The pods find each other through a pod that DNS lists.
func TestPodsThatStartTogetherTakeALostSessionOnce(t *testing.T) {
	for range 10 {
		s := newSet(t, 1, true)
		s.pods[0].set(func(p *pod) { p.most = 0 }) // one of the others takes the session
		s.startTogether(1, 2, 3)
		record := session.New(9, 9) // of a pod that is gone
		record.Version = "2025-11-25"
		s.callThrough(t, record.ID(), 1, 2, 3)
		if places := s.places(record.ID()); len(places) != 1 {
			t.Fatalf("the session is in the pods %v", places)
		}
		for _, p := range s.all() {
			s.remove(p)
		}
	}
}

// DNS may find a pod that it does not list by its name only after a moment.
func TestAPodThatDoesNotAnswerYetIsAskedAgain(t *testing.T) {
	s := newSet(t, 1, true)
	s.startTogether(2)
	var refused atomic.Int32
	s.pods[2].set(func(p *pod) {
		p.onManage = func(http.ResponseWriter, *http.Request) bool {
			if refused.Add(1) > 3 {
				return false
			}
			panic(http.ErrAbortHandler)
		}
	})
	s.startTogether(1)
	if !s.pods[1].router.members.has(2) || !s.pods[2].router.members.has(1) {
		t.Error("the pods do not know each other")
	}
}

// DNS of one pod can still list a pod that is gone.
func TestAPodThatIsGoneIsNotAskedForLong(t *testing.T) {
	s := newSet(t, 1, true)
	s.pods[0].router.members.introduce(7)
	s.add(1)
	if s.pods[1].router.refresh(); len(s.pods[1].router.members.all(t.Context())) != 1 {
		t.Errorf("the pod knows %v", s.pods[1].router.members.present())
	}
}
