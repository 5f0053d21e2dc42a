package session

import (
	"container/list"
	"errors"
	"slices"
	"sync"
	"time"
)

// State is what a pod knows of a session.
type State int

const (
	// Absent means that this pod does not have the session and does not know whether it has ended.
	Absent State = iota
	// Live means that this pod has the session.
	Live
	// Ended means that the client or the server has ended the session. It must not be recreated.
	Ended
)

// ErrFull is the error of a new session if the pod has as many sessions as it may have.
var ErrFull = errors.New("this pod has as many sessions as it may have")

// mostEnded is the number of ended sessions that a table remembers.
const mostEnded = 100_000

// Table has the sessions of this pod. It may be used by several goroutines.
type Table[S any] struct {
	most int
	idle time.Duration
	now  func() time.Time

	mutex  sync.Mutex
	places int // reserved
	live   map[string]*entry[S]
	ended  map[string]*list.Element
	oldest *list.List // of ended ids
}

type entry[S any] struct {
	session S
	// using is the number of requests in progress. A session in use is not idle.
	using int
	last  time.Time
}

// NewTable returns a table for at most most sessions. A session that is not used for the duration idle is idle; if idle is 0, no session is.
func NewTable[S any](most int, idle time.Duration, now func() time.Time) *Table[S] {
	return &Table[S]{most: most, idle: idle, now: now, live: map[string]*entry[S]{}, ended: map[string]*list.Element{}, oldest: list.New()}
}

// Reserve reserves a place for a session that is being opened. It fails with ErrFull if there is none. The caller must call open or release; what is
// called later has no effect.
func (t *Table[S]) Reserve() (open func(id string, s S), release func(), err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.live)+t.places >= t.most {
		return nil, nil, ErrFull
	}
	t.places++
	var once sync.Once
	open = func(id string, s S) {
		once.Do(func() {
			t.mutex.Lock()
			defer t.mutex.Unlock()
			t.places--
			t.live[id] = &entry[S]{session: s, last: t.now()}
		})
	}
	release = func() {
		once.Do(func() {
			t.mutex.Lock()
			defer t.mutex.Unlock()
			t.places--
		})
	}
	return open, release, nil
}

// Use returns a session. The session is in use until done is called, which must be done if the state is Live.
func (t *Table[S]) Use(id string) (s S, done func(), state State) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	found, isLive := t.live[id]
	if !isLive {
		return s, nil, t.stateOf(id)
	}
	found.using++
	return found.session, sync.OnceFunc(func() {
		t.mutex.Lock()
		defer t.mutex.Unlock()
		found.using--
		found.last = t.now()
	}), Live
}

// Peek returns a session without using it.
func (t *Table[S]) Peek(id string) (s S, state State) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if found, isLive := t.live[id]; isLive {
		return found.session, Live
	}
	return s, t.stateOf(id)
}

// State returns the state of a session, without using it.
func (t *Table[S]) State(id string) State {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.stateOf(id)
}

func (t *Table[S]) stateOf(id string) State {
	if _, isLive := t.live[id]; isLive {
		return Live
	}
	if _, hasEnded := t.ended[id]; hasEnded {
		return Ended
	}
	return Absent
}

// End removes a session, if the pod has it, and remembers that it has ended.
func (t *Table[S]) End(id string) (s S, wasLive bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.remember(id)
	return t.remove(id)
}

// Ended returns the ended sessions that the table remembers, the oldest first.
func (t *Table[S]) Ended() []string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	ids := make([]string, 0, t.oldest.Len())
	for one := t.oldest.Front(); one != nil; one = one.Next() {
		ids = append(ids, one.Value.(string))
	}
	return ids
}

// Drop removes a session without remembering it, so that another pod may recreate it.
func (t *Table[S]) Drop(id string) (s S, wasLive bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.remove(id)
}

// EndIdle ends the sessions that are idle, and returns them. A session is not idle if an isBusy says so.
func (t *Table[S]) EndIdle(isBusy ...func(S) bool) (idle []S) {
	if t.idle == 0 {
		return nil
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for id, found := range t.live {
		if found.using == 0 && t.now().Sub(found.last) >= t.idle && !is(found.session, isBusy) {
			idle = append(idle, found.session)
			delete(t.live, id)
			t.remember(id)
		}
	}
	return idle
}

// DropUnused removes the sessions that are not in use without remembering them, and returns them. A session is in use also if an isBusy says so.
func (t *Table[S]) DropUnused(isBusy ...func(S) bool) (unused []S) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for id, found := range t.live {
		if found.using == 0 && !is(found.session, isBusy) {
			unused = append(unused, found.session)
			delete(t.live, id)
		}
	}
	return unused
}

func is[S any](s S, conditions []func(S) bool) bool {
	return slices.ContainsFunc(conditions, func(condition func(S) bool) bool { return condition(s) })
}

// DropAll removes all sessions without remembering them, and returns them.
func (t *Table[S]) DropAll() (all []S) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, found := range t.live {
		all = append(all, found.session)
	}
	clear(t.live)
	return all
}

// Len returns the number of sessions of the pod, with those that are being opened.
func (t *Table[S]) Len() int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return len(t.live) + t.places
}

func (t *Table[S]) remove(id string) (s S, wasLive bool) {
	found, wasLive := t.live[id]
	if !wasLive {
		return s, false
	}
	delete(t.live, id)
	return found.session, true
}

func (t *Table[S]) remember(id string) {
	if _, isKnown := t.ended[id]; isKnown {
		return
	}
	t.ended[id] = t.oldest.PushBack(id)
	if t.oldest.Len() > mostEnded {
		first := t.oldest.Front()
		t.oldest.Remove(first)
		delete(t.ended, first.Value.(string))
	}
}
