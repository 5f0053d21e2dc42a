package peers

import (
	"container/list"
	"sync"
)

// mostLocations is the number of sessions of other pods whose place is remembered.
const mostLocations = 20_000

// locations remembers where sessions of other pods are. A location may be wrong: the pod that gets the request says so.
type locations struct {
	mutex  sync.Mutex
	byID   map[string]*list.Element
	recent *list.List // of location, the one that was used last is first
}

type location struct {
	id      string
	ordinal uint16
}

func newLocations() *locations {
	return &locations{byID: map[string]*list.Element{}, recent: list.New()}
}

func (l *locations) get(id string) (uint16, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	found, isKnown := l.byID[id]
	if !isKnown {
		return 0, false
	}
	l.recent.MoveToFront(found)
	return found.Value.(location).ordinal, true
}

func (l *locations) set(id string, ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if found, isKnown := l.byID[id]; isKnown {
		found.Value = location{id, ordinal}
		l.recent.MoveToFront(found)
		return
	}
	l.byID[id] = l.recent.PushFront(location{id, ordinal})
	if l.recent.Len() > mostLocations {
		oldest := l.recent.Back()
		l.recent.Remove(oldest)
		delete(l.byID, oldest.Value.(location).id)
	}
}

func (l *locations) forget(id string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if found, isKnown := l.byID[id]; isKnown {
		l.recent.Remove(found)
		delete(l.byID, id)
	}
}
