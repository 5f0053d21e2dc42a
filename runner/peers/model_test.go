package peers

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"mcpserver-operator/runner/session"
)

var (
	modelSeeds = flag.Uint64("model.seeds", 12, "number of random sequences of TestRandomPods")
	modelSeed  = flag.Uint64("model.seed", 0, "the first seed of TestRandomPods")
)

// known is what the model knows of a session.
type known int

const (
	isOpen known = iota
	// isEnded means that the client has got the answer to DELETE.
	isEnded
	// isUncertain means that DELETE has failed: it may have been carried out or not.
	isUncertain
)

// model is a set of pods, and what clients know of their sessions.
type model struct {
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	set      *set
	mutex    sync.Mutex
	sessions map[string]known
	history  []string
}

// TestRandomPods lets pods join, drain and die while clients open, call and end sessions. At rest, each session has at most one place, answers through each
// pod unless it was ended, and never after its end.
func TestRandomPods(t *testing.T) {
	for seed := *modelSeed; seed < *modelSeed+*modelSeeds; seed++ {
		m := &model{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), set: newSet(t, 1+int(seed%4), true), sessions: map[string]known{}}
		for range 25 {
			m.step()
			m.rest()
		}
		for _, p := range m.set.all() {
			m.set.remove(p)
		}
	}
}

func (m *model) note(format string, args ...any) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.history = append(m.history, fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: %s\n%s", m.seed, fmt.Sprintf(format, args...), strings.Join(m.history, "\n"))
}

// ids returns the sessions in a fixed order.
func (m *model) ids() []string {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	ids := make([]string, 0, len(m.sessions))
	for id := range m.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// step does several things at the same time.
func (m *model) step() {
	if m.random.IntN(2) == 0 {
		m.set.refresh() // else the lists and loads may be old
	}
	pods, ids := m.set.all(), m.ids()
	slices.SortFunc(pods, func(a, b *pod) int { return int(a.ordinal) - int(b.ordinal) })
	var doing sync.WaitGroup
	defer doing.Wait()
	for range 1 + m.random.IntN(6) {
		via := pods[m.random.IntN(len(pods))]
		var id string
		if len(ids) > 0 {
			id = ids[m.random.IntN(len(ids))]
		}
		switch action := m.random.IntN(10); {
		case action < 3 || id == "":
			doing.Go(func() { m.open(via) })
		case action < 4:
			doing.Go(func() { m.end(via, id) })
		default:
			doing.Go(func() { m.call(via, id) })
		}
	}
	living := slices.DeleteFunc(slices.Clone(pods), func(p *pod) bool { return p.stops })
	switch event := m.random.IntN(8); {
	case event < 2 && len(living) > 1:
		victim := living[m.random.IntN(len(living))]
		m.note("pod %d dies", victim.ordinal)
		doing.Go(func() { m.set.kill(victim.ordinal) })
	case event < 4 && len(living) > 1:
		victim := living[m.random.IntN(len(living))]
		m.note("pod %d drains", victim.ordinal)
		doing.Go(victim.stop)
	case event < 6:
		for _, p := range pods {
			if p.stops {
				m.note("pod %d has drained", p.ordinal)
				doing.Go(func() { m.set.kill(p.ordinal) })
				return
			}
		}
		fallthrough
	default:
		for ordinal := range uint16(5) {
			if !slices.ContainsFunc(pods, func(p *pod) bool { return p.ordinal == ordinal }) {
				m.note("pod %d joins", ordinal)
				m.set.add(ordinal)
				m.set.mutex.Lock()
				m.set.unlisted[ordinal] = m.random.IntN(3) == 0 // DNS is late
				m.set.mutex.Unlock()
				return
			}
		}
	}
}

func (m *model) open(via *pod) {
	got := via.send(m.t.Context(), http.MethodPost, "", initialize)
	m.note("open through %d: %d", via.ordinal, got.status)
	if got.id != "" {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.sessions[got.id] = isOpen
	}
}

func (m *model) end(via *pod, id string) {
	got := via.send(m.t.Context(), http.MethodDelete, id, "")
	m.note("end %s through %d: %d %v", session.Short(id), via.ordinal, got.status, got.err)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	switch {
	case m.sessions[id] == isEnded:
	case got.err == nil && got.status == http.StatusNoContent:
		m.sessions[id] = isEnded
	default:
		m.sessions[id] = isUncertain
	}
}

func (m *model) call(via *pod, id string) {
	m.mutex.Lock()
	wasEnded := m.sessions[id] == isEnded
	couldKnow := m.canKnow(via, id)
	m.mutex.Unlock()
	got := via.send(m.t.Context(), http.MethodPost, id, "x")
	m.note("call %s through %d: %d %.40s %v", session.Short(id), via.ordinal, got.status, got.text, got.err)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.sessions[id] != isEnded || got.status != http.StatusOK {
		return
	}
	if !wasEnded {
		return // the end came during the call
	}
	if couldKnow && m.canKnow(via, id) {
		m.t.Errorf("seed %d: session %s answers after its end", m.seed, session.Short(id))
	}
	delete(m.sessions, id) // all pods that knew it died: it is as if it had never been
}

// canKnow reports whether a pod knows that a session has ended, or another one that it can ask.
func (m *model) canKnow(via *pod, id string) bool {
	if via.State(id) == session.Ended {
		return true
	}
	via.router.members.mutex.Lock()
	listed := via.router.members.peers
	via.router.members.mutex.Unlock()
	return slices.ContainsFunc(m.set.all(), func(p *pod) bool {
		return p.State(id) == session.Ended && slices.Contains(listed, p.peer())
	})
}

// rest checks what holds when nothing happens.
func (m *model) rest() {
	m.set.mutex.Lock()
	clear(m.set.unlisted)
	m.set.mutex.Unlock()
	m.set.refresh()
	for _, id := range m.ids() {
		state := m.sessions[id]
		if state == isEnded && m.isForgotten(id) {
			delete(m.sessions, id) // it is as if it had never been
			continue
		}
		for _, via := range m.set.all() {
			got := via.send(m.t.Context(), http.MethodPost, id, "x")
			switch {
			case state == isOpen && got.status != http.StatusOK:
				m.fail("session %s is lost: through pod %d: %+v", session.Short(id), via.ordinal, got)
			case state == isEnded && got.status != http.StatusNotFound:
				m.fail("session %s has ended: through pod %d: %+v", session.Short(id), via.ordinal, got)
			}
		}
		if places := m.set.places(id); len(places) > 1 || (state == isOpen && len(places) == 0) {
			m.fail("session %s is in the pods %v", session.Short(id), places)
		}
	}
}

// isForgotten reports whether no pod knows any more that a session has ended: all that have known it are gone.
func (m *model) isForgotten(id string) bool {
	return !slices.ContainsFunc(m.set.all(), func(p *pod) bool { return p.State(id) == session.Ended })
}
