package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"mcpserver-operator/runner/peers"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// podSet are the pods of a StatefulSet. It is their resolver.
type podSet struct {
	mutex sync.Mutex
	peers []peers.Peer
}

// Peers implements peers.Resolver.
func (s *podSet) Peers(context.Context) ([]peers.Peer, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]peers.Peer(nil), s.peers...), nil
}

// Peer implements peers.Resolver.
func (s *podSet) Peer(ordinal uint16) peers.Peer {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, peer := range s.peers {
		if peer.Ordinal == ordinal {
			return peer
		}
	}
	return peers.Peer{Ordinal: ordinal}
}

// add lists a pod.
func (s *podSet) add(p *pod) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.peers = append(s.peers, peers.Peer{
		Ordinal: p.config.ordinal, Address: p.clients.Listener.Addr().String(), Management: p.management.Listener.Addr().String(),
	})
}

// remove lists a pod no more.
func (s *podSet) remove(p *pod) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.peers = slices.DeleteFunc(s.peers, func(one peers.Peer) bool { return one.Address == p.clients.Listener.Addr().String() })
}

// startPods starts the pods of a StatefulSet, and waits until they are ready.
func startPods(t *testing.T, count int, flags ...string) (pods []*pod) {
	t.Helper()
	set := &podSet{}
	for ordinal := range count {
		p := startPodOf(t, set, "", append(flags, fmt.Sprintf("--pod=web-%d", ordinal), "--service=web")...)
		waittest.Eventually(t, "readiness", func() bool { return p.send(http.MethodGet, p.management.URL+"/readyz", "").status == http.StatusOK })
		pods = append(pods, p)
	}
	return pods
}

func TestASessionIsFoundFromEachPodAndSurvivesTheDrainOfItsPod(t *testing.T) {
	pods := startPods(t, 3)
	c := pods[0].open(rpc.Polling)
	for i, p := range pods {
		if got := c.elsewhere(p).call("count"); got != fmt.Sprint(i+1) {
			t.Errorf("at pod %d: call %s", i, got)
		}
	}
	owner := 0
	for i, p := range pods {
		if open, _, _ := p.server.Load(); open > 0 {
			owner = i
		}
	}
	progress := c.elsewhere(pods[(owner+1)%3]).post(toolCall("9", "progress", "{}")).messages() // streams are forwarded too
	if len(progress) != 3 {
		t.Errorf("got %q", progress)
	}
	pods[owner].isDraining.Store(true)
	pods[owner].server.Drain(t.Context())
	for i, p := range pods {
		if got := c.elsewhere(p).call("initialized"); !strings.HasPrefix(got, rpc.Polling) || !strings.HasSuffix(got, "true") {
			t.Errorf("at pod %d after the drain: %s", i, got)
		}
	}
	if open, _, _ := pods[owner].server.Load(); open != 0 {
		t.Error("the pod that drains has the session again")
	}
	if a := c.elsewhere(pods[owner]).delete(); a.status != http.StatusNoContent {
		t.Errorf("DELETE: status %d", a.status)
	}
	for i, p := range pods {
		if a := c.elsewhere(p).post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
			t.Errorf("at pod %d after DELETE: status %d", i, a.status)
		}
	}
}

func TestADrainingPodForwardsNewSessions(t *testing.T) {
	pods := startPods(t, 2)
	pods[0].isDraining.Store(true)
	pods[0].server.Drain(t.Context())
	pods[0].open(rpc.Polling)
	if open, _, _ := pods[1].server.Load(); open != 1 {
		t.Errorf("the other pod has %d sessions", open)
	}
}
