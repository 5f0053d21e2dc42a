package peers

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// members is the list of the other pods.
type members struct {
	self     uint16
	resolver Resolver
	now      func() time.Time

	mutex  sync.Mutex
	list   []Peer
	listed time.Time
	down   map[uint16]time.Time // until when a pod is not asked
}

// all returns the other pods in the order of their ordinals. If they cannot be found, it returns those that were found last.
func (m *members) all(ctx context.Context) []Peer {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.now().Sub(m.listed) < listTime {
		return m.list
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := m.resolver.Peers(ctx)
	if err == nil {
		found = slices.DeleteFunc(slices.Clone(found), func(p Peer) bool { return p.Ordinal == m.self })
		slices.SortFunc(found, func(a, b Peer) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
		m.list = slices.CompactFunc(found, func(a, b Peer) bool { return a.Ordinal == b.Ordinal })
	}
	m.listed = m.now()
	return m.list
}

// up returns the other pods, without those that could not be reached lately.
func (m *members) up(ctx context.Context) []Peer {
	all := m.all(ctx)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var up []Peer
	for _, peer := range all {
		if !m.now().Before(m.down[peer.Ordinal]) {
			up = append(up, peer)
		}
	}
	return up
}

// find returns a pod by its ordinal, unless it could not be reached lately.
func (m *members) find(ctx context.Context, ordinal uint16) (Peer, bool) {
	up := m.up(ctx)
	i := slices.IndexFunc(up, func(p Peer) bool { return p.Ordinal == ordinal })
	if i < 0 {
		return Peer{}, false
	}
	return up[i], true
}

// isDown remembers that a pod could not be reached.
func (m *members) isDown(ordinal uint16) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.down == nil {
		m.down = map[uint16]time.Time{}
	}
	for other, until := range m.down {
		if !m.now().Before(until) {
			delete(m.down, other)
		}
	}
	m.down[ordinal] = m.now().Add(downTime)
}
