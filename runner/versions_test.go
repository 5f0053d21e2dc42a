package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"mcpserver-operator/runner/peers"
	"mcpserver-operator/runner/rpc"
)

// A pod with a later version of the runner is one whose requests and answers to the other pods have more than this version knows: a header, a word, and
// members of answers. What this version sends itself is in TestWhatTheRunnersTellEachOther.

// laterVersion returns the address of a server in front of another one that adds what a later version adds.
func laterVersion(t *testing.T, address string, isRequest, isAnswer bool) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			if r.Out.Host = r.In.Host; isRequest {
				r.Out.Header.Set("Mcp-Runner-Later", "yes")
				if forwarded := r.In.Header.Get(peers.ForwardedHeader); forwarded != "" {
					r.Out.Header.Set(peers.ForwardedHeader, forwarded+" later")
				}
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ModifyResponse: func(response *http.Response) error {
			if !isAnswer {
				return nil
			}
			response.Header.Set("Mcp-Runner-Later", "yes")
			if !strings.HasPrefix(response.Request.URL.Path, "/sessions") || response.StatusCode != http.StatusOK {
				return nil
			}
			var members map[string]any
			if err := json.NewDecoder(response.Body).Decode(&members); err != nil {
				return fmt.Errorf("reading an answer: %w", err)
			}
			members["later"], members["loads"] = true, []int{1}
			content, err := json.Marshal(members)
			response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
			response.Header.Set("Content-Length", fmt.Sprint(len(content)))
			return err
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.CloseClientConnections)
	return server.Listener.Addr().String()
}

// seenBy are the pods of a StatefulSet as one of them sees them.
type seenBy struct {
	mutex sync.Mutex
	all   []peers.Peer
}

// Peers implements peers.Resolver.
func (s *seenBy) Peers(context.Context) ([]peers.Peer, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]peers.Peer(nil), s.all...), nil
}

// Peer implements peers.Resolver.
func (s *seenBy) Peer(ordinal uint16) peers.Peer {
	all, _ := s.Peers(context.Background())
	if int(ordinal) < len(all) {
		return all[ordinal]
	}
	return peers.Peer{Ordinal: ordinal}
}

// startPodsOfTwoVersions starts pods. Those with an even ordinal have this version of the runner, the others a later one.
func startPodsOfTwoVersions(t *testing.T, count int) (pods []*pod) {
	t.Helper()
	views := make([]*seenBy, count)
	for ordinal := range count {
		views[ordinal] = &seenBy{}
		pods = append(pods, startPodOf(t, views[ordinal], "", fmt.Sprintf("--pod=web-%d", ordinal), "--service=web"))
	}
	for from, view := range views {
		view.mutex.Lock()
		for to, p := range pods {
			peer := peers.Peer{
				Ordinal: uint16(to), Address: p.clients.Listener.Addr().String(), Management: p.management.Listener.Addr().String(),
			}
			if from != to {
				peer.Address = laterVersion(t, peer.Address, from%2 == 1, to%2 == 1)
				peer.Management = laterVersion(t, peer.Management, from%2 == 1, to%2 == 1)
			}
			view.all = append(view.all, peer)
		}
		view.mutex.Unlock()
	}
	for _, p := range pods {
		eventually(t, "readiness", func() bool { return p.send(http.MethodGet, p.management.URL+"/readyz", "").status == http.StatusOK })
	}
	return pods
}

// TestTwoVersionsOfTheRunnerWorkSideBySide: sessions are found, recreated and ended across the versions, in both directions.
func TestTwoVersionsOfTheRunnerWorkSideBySide(t *testing.T) {
	pods := startPodsOfTwoVersions(t, 4)
	var clients []*client
	for range 24 {
		clients = append(clients, pods[len(clients)%4].open(rpc.Polling))
	}
	callAll := func(when string) {
		t.Helper()
		for i, c := range clients {
			for _, p := range pods {
				if got := c.elsewhere(p).call("initialized"); !strings.HasPrefix(got, rpc.Polling) || !strings.HasSuffix(got, "true") {
					t.Errorf("%s: session %d at %s: %s", when, i, p.config.pod, got)
				}
			}
		}
	}
	callAll("at first")
	for ordinal, p := range pods[:2] {
		if open, _, _ := p.server.Load(); open == 0 {
			t.Errorf("pod %d has no session", ordinal)
		}
	}
	for _, ordinal := range []int{0, 1} { // one of each version is replaced
		pods[ordinal].isDraining.Store(true)
		pods[ordinal].server.Drain(t.Context())
		callAll(fmt.Sprintf("after the drain of pod %d", ordinal))
	}
	recreated := 0
	for _, p := range pods[2:] {
		if !strings.Contains(p.metricsText(), "mcp_runner_sessions_recreated_total 0\n") {
			recreated++
		}
	}
	if recreated != 2 {
		t.Error("only one version has recreated sessions")
	}
	for i, c := range clients {
		if a := c.elsewhere(pods[i%4]).delete(); a.status != http.StatusNoContent {
			t.Errorf("DELETE of session %d: status %d", i, a.status)
		}
		if a := c.elsewhere(pods[(i+1)%4]).post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
			t.Errorf("session %d after DELETE: status %d", i, a.status)
		}
	}
}
