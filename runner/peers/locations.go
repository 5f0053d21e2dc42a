package peers

import "sync"

// maxLocations is the number of sessions of other pods whose place is remembered.
const maxLocations = 10_000

// locations remembers where sessions of other pods are. It is only a cache: a pod that has not the session says so.
type locations struct {
	mutex sync.Mutex
	of    map[string]uint16
}

func (l *locations) find(id string) (ordinal uint16, found bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	ordinal, found = l.of[id]
	return ordinal, found
}

func (l *locations) remember(id string, ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.of == nil || len(l.of) >= maxLocations {
		l.of = map[string]uint16{} // it fills again with the sessions that are in use
	}
	l.of[id] = ordinal
}

func (l *locations) forget(id string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.of, id)
}
