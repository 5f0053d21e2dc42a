package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Peer is the runner of another pod of the StatefulSet.
type Peer struct {
	// Ordinal is the ordinal of the pod.
	Ordinal uint16
	// Address is the address, host:port, at which the runner serves clients.
	Address string
	// Management is the address, host:port, at which the runner serves the other runners.
	Management string
}

// Resolver finds the other pods.
type Resolver interface {
	// Peers returns the pods that exist. This pod may be among them. A pod that was just created or deleted may be missing or listed.
	Peers(ctx context.Context) ([]Peer, error)
	// Peer returns where the pod with an ordinal is, if it exists.
	Peer(ordinal uint16) Peer
}

const (
	// mostPeers is the number of pods that this pod works with. Those with the lowest ordinals count.
	mostPeers = 1000
	// listAge is how long a list of peers is used before the resolver is asked again.
	listAge = time.Second
	// newcomerAge is how long a pod that has introduced itself belongs to the list without the resolver.
	newcomerAge = time.Minute
	// resolveTimeout is how long the resolver may take.
	resolveTimeout = 2 * time.Second
)

// members is the list of peers, without this pod. It is refreshed on demand.
type members struct {
	ctx      context.Context // ends with the router
	resolver Resolver
	self     uint16
	report   func(error)

	refreshing singleflight.Group
	mutex      sync.Mutex
	peers      []Peer
	newcomers  map[uint16]time.Time
	tried      time.Time
	isStale    bool // the last attempt has failed
	isKnown    bool // an attempt has succeeded, or DNS has said that there are no pods
}

// all returns the peers in the order of their ordinals. After an error of the resolver, it returns the last list.
func (l *members) all(ctx context.Context) []Peer {
	l.mutex.Lock()
	peers, isFresh, isStale := l.peers, time.Since(l.tried) < listAge, l.isStale && l.isKnown
	l.mutex.Unlock()
	if isFresh {
		return peers
	}
	refreshed := l.refreshing.DoChan("", func() (any, error) { l.refresh(); return nil, nil })
	if isStale { // DNS is out of order: do not wait for it with each request
		return peers
	}
	select {
	case <-refreshed:
	case <-ctx.Done():
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.peers
}

// present returns the peers without asking the resolver.
func (l *members) present() []Peer {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.peers
}

func (l *members) refresh() {
	ctx, cancel := context.WithTimeout(l.ctx, resolveTimeout)
	defer cancel()
	peers, err := l.resolver.Peers(ctx)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.tried, l.isStale = time.Now(), err != nil
	if failure, is := errors.AsType[*net.DNSError](err); is && failure.IsNotFound {
		l.isKnown, l.isStale = true, false // DNS answers; it does not list the first pod of a new Service at once
	}
	if err != nil {
		if l.ctx.Err() == nil {
			l.report(fmt.Errorf("finding the other pods: %w", err))
		}
		return
	}
	for ordinal, since := range l.newcomers {
		isListed := slices.ContainsFunc(peers, func(p Peer) bool { return p.Ordinal == ordinal })
		if isListed || time.Since(since) > newcomerAge {
			delete(l.newcomers, ordinal)
			continue
		}
		peers = append(peers, l.resolver.Peer(ordinal))
	}
	l.peers, l.isKnown = normal(peers, l.self), true
}

// doubt lets the resolver alone say whether a pod exists, because the pod does not answer.
func (l *members) doubt(ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.newcomers, ordinal)
}

// introduce adds a pod that has just started. The resolver may list it later, and the present list may be from before.
func (l *members) introduce(ordinal uint16) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.newcomers[ordinal] = time.Now()
	l.tried = time.Time{} // the resolver may know where it is
	others := slices.DeleteFunc(slices.Clone(l.peers), func(p Peer) bool { return p.Ordinal == ordinal })
	l.peers = normal(append(others, l.resolver.Peer(ordinal)), l.self)
}

// areKnown reports whether the peers were found at least once, and whether the last attempt to find them has succeeded.
func (l *members) areKnown() (isKnown, isFresh bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.isKnown, !l.isStale
}

// normal returns peers in the order of their ordinals, each once, without the pod self, and not more than mostPeers.
func normal(peers []Peer, self uint16) []Peer {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Ordinal == self })
	slices.SortStableFunc(peers, func(a, b Peer) int { return int(a.Ordinal) - int(b.Ordinal) })
	peers = slices.CompactFunc(peers, func(a, b Peer) bool { return a.Ordinal == b.Ordinal })
	return peers[:min(len(peers), mostPeers)]
}

// find returns the peer with an ordinal. DNS may not list a new pod yet, so find does not require that the peer is listed.
func (l *members) find(ordinal uint16) Peer {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, peer := range l.peers {
		if peer.Ordinal == ordinal {
			return peer
		}
	}
	return l.resolver.Peer(ordinal)
}

// has reports whether a peer is in the present list.
func (l *members) has(ordinal uint16) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return slices.ContainsFunc(l.peers, func(p Peer) bool { return p.Ordinal == ordinal })
}
