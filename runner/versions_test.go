package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"mcpserver-operator/runner/peers"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
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

// startPodsOfTwoVersions starts pods. Those with an even ordinal have this version of the runner, the others a later one.
func startPodsOfTwoVersions(t *testing.T, count int) (pods []*pod) {
	t.Helper()
	views := make([]*podSet, count) // each pod sees the others in its own way
	for ordinal := range count {
		views[ordinal] = &podSet{}
		pods = append(pods, startPodOf(t, views[ordinal], "", fmt.Sprintf("--pod=web-%d", ordinal), "--service=web"))
	}
	for from, view := range views {
		for to, p := range pods {
			if from == to {
				continue
			}
			view.mutex.Lock()
			view.peers = append(view.peers, peers.Peer{
				Ordinal:    uint16(to),
				Address:    laterVersion(t, p.clients.Listener.Addr().String(), from%2 == 1, to%2 == 1),
				Management: laterVersion(t, p.management.Listener.Addr().String(), from%2 == 1, to%2 == 1),
			})
			view.mutex.Unlock()
		}
	}
	for _, p := range pods {
		waittest.Eventually(t, "readiness", func() bool { return p.send(http.MethodGet, p.management.URL+"/readyz", "").status == http.StatusOK })
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
