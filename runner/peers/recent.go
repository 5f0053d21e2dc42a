package peers

import (
	"sync"
	"time"
)

// recent is a set of pods. A pod leaves the set when age has passed since it was last added.
type recent struct {
	age   time.Duration
	mutex sync.Mutex
	since map[uint16]time.Time
}

func newRecent(age time.Duration) *recent { return &recent{age: age, since: map[uint16]time.Time{}} }

func (r *recent) add(ordinal uint16) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.since[ordinal] = time.Now()
}

func (r *recent) remove(ordinal uint16) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.since, ordinal)
}

func (r *recent) has(ordinal uint16) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	since, isThere := r.since[ordinal]
	return isThere && time.Since(since) < r.age
}
