package main

import (
	"net/http"
	"strings"
	"testing"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// openSSE opens a session of HTTP+SSE and returns its stream and the URL for messages.
func (p *pod) openSSE() (general *answer, url string) {
	p.t.Helper()
	general = p.send(http.MethodGet, p.clients.URL+"/sse", "")
	event := general.event()
	if event == nil || event.Name != "endpoint" {
		p.t.Fatalf("status %d, the first event is %+v", general.status, event)
	}
	return general, p.clients.URL + "/" + string(event.Data)
}

func TestHTTPWithSSE(t *testing.T) {
	p := startPod(t, "", "--sse")
	general, url := p.openSSE()
	for _, body := range []string{initialize(rpc.HTTPWithSSE), `{"jsonrpc":"2.0","method":"notifications/initialized"}`, toolCall("1", "progress", "{}")} {
		if a := p.send(http.MethodPost, url, body); a.status != http.StatusAccepted {
			t.Fatalf("status %d", a.status)
		}
	}
	var got []string
	for range 4 {
		got = append(got, string(general.event().Data))
	}
	if !strings.Contains(got[0], "serverInfo") || !strings.Contains(got[1], "progress") || resultText(got[3]) != "done" {
		t.Errorf("got %q", got)
	}
}

func TestASessionOfHTTPWithSSEEndsWithItsStream(t *testing.T) {
	p := startPod(t, "", "--sse", "--spare-processes=0")
	general, url := p.openSSE()
	_ = general.body.Close()
	waittest.Eventually(t, "the end of the session", func() bool {
		return p.send(http.MethodPost, url, toolCall("1", "count", "{}")).status == http.StatusNotFound
	})
	waittest.Eventually(t, "the end of the process", func() bool { return len(children(t)) == 0 })
}

func TestAStreamOfHTTPWithSSEEndsWithTheProcess(t *testing.T) {
	p := startPod(t, "", "--sse")
	general, url := p.openSSE()
	p.send(http.MethodPost, url, toolCall("1", "exit", "{}"))
	messages := general.messages()
	if len(messages) != 1 || errorCode(messages[0]) != "-32000" {
		t.Errorf("got %q", messages)
	}
}

func TestHTTPWithSSEIsOffUnlessAskedFor(t *testing.T) {
	p := startPod(t, "")
	if a := p.send(http.MethodGet, p.clients.URL+"/sse", ""); a.status != http.StatusBadRequest {
		t.Errorf("status %d", a.status)
	}
}
