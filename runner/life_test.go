package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// elsewhere is the same client at another pod.
func (c *client) elsewhere(p *pod) *client { return &client{p, c.id, c.version} }

func TestASessionGoesOnAtAnotherPodUnderTheSameID(t *testing.T) {
	c := startPod(t, "").open(rpc.Elicitation)
	other := startPod(t, "", "--pod=web-1", "--spare-processes=0")
	var calls sync.WaitGroup
	for i := range 5 {
		calls.Go(func() {
			a := c.elsewhere(other).post(toolCall(`"`+string(rune('a'+i))+`"`, "initialized", "{}"))
			if got := resultText(a.last()); got != rpc.Elicitation+` {"elicitation":{},"roots":{"listChanged":true},"sampling":{}} true` {
				t.Errorf("got %s", got)
			}
		})
	}
	calls.Wait()
	if open, _, _ := other.server.Load(); open != 1 {
		t.Errorf("%d sessions", open)
	}
	if !strings.Contains(other.metricsText(), "mcp_runner_sessions_recreated_total 1") {
		t.Error("the session was not recreated once")
	}
}

func TestASessionThatWasEndedStaysEnded(t *testing.T) {
	c := startPod(t, "").open(rpc.Elicitation)
	other := c.elsewhere(startPod(t, ""))
	if a := other.delete(); a.status != http.StatusNoContent {
		t.Errorf("status %d", a.status)
	}
	if a := other.post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
}

func TestASessionEndsWithItsPodIfThatIsAskedFor(t *testing.T) {
	c := startPod(t, "").open(rpc.Elicitation)
	other := c.elsewhere(startPod(t, "", "--on-pod-loss=End"))
	if a := other.post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
}

func TestARequestThatWasLostWithItsPodIsAnsweredWithAnError(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	first := c.post(toolCall(`"lost"`, "never", "{}")).event()
	a := c.elsewhere(startPod(t, "")).get(legacy.LastEventIDHeader, *first.ID)
	messages := a.messages()
	if len(messages) != 1 || errorCode(messages[0]) != "-32000" || string(rpc.Get([]byte(messages[0]), "id")) != `"lost"` {
		t.Errorf("got %q", messages)
	}
}

func TestDrainingLetsCallsEndAndThenLetsTheSessionGo(t *testing.T) {
	p := startPod(t, "")
	busy, idle := p.open(rpc.Polling), p.open(rpc.Polling)
	general := idle.get()
	call := busy.post(toolCall("1", "sleep", `{"ns":500000000}`))
	drained := make(chan struct{})
	p.isDraining.Store(true)
	go func() { p.server.Drain(t.Context()); close(drained) }()
	event := general.event()
	if event == nil || event.Retry == nil {
		t.Errorf("the stream of an idle session ends with %+v", event)
	}
	for _, a := range []*answer{p.send(http.MethodPost, p.url, initialize(rpc.Polling)), idle.post(toolCall("1", "count", "{}"))} {
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	}
	if a := p.send(http.MethodGet, p.management.URL+"/readyz", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("readyz: status %d", a.status)
	}
	if messages := call.messages(); len(messages) != 1 || resultText(messages[0]) != "slept" {
		t.Errorf("the call in progress has got %q", messages)
	}
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Error("draining does not end")
	}
}

func TestDrainingWaitsForACallWhoseClientIsDisconnected(t *testing.T) {
	p := startPod(t, "")
	c := p.open(rpc.Polling)
	call := c.post(toolCall("1", "sleep", `{"ns":500000000}`))
	first := call.event()
	_ = call.body.Close()
	go p.server.Drain(t.Context())
	if messages := c.get(legacy.LastEventIDHeader, *first.ID).messages(); len(messages) != 1 || resultText(messages[0]) != "slept" {
		t.Errorf("got %q", messages)
	}
}

func TestReadyWhenTheServerHasAnswered(t *testing.T) {
	p := startPod(t, "slow-start")
	if a := p.send(http.MethodGet, p.management.URL+"/readyz", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("at once: status %d", a.status)
	}
	waittest.Eventually(t, "readiness", func() bool { return p.send(http.MethodGet, p.management.URL+"/readyz", "").status == http.StatusOK })
	if a := p.send(http.MethodGet, p.management.URL+"/healthz", ""); a.status != http.StatusOK {
		t.Errorf("healthz: status %d", a.status)
	}
}

func TestASpareProcessHidesASlowStart(t *testing.T) {
	p := startPod(t, "slower-start")
	waittest.Eventually(t, "the start of the process that is asked first and of the spare one", func() bool { return strings.Count(p.log.String(), `"started"`) == 2 })
	begin := time.Now()
	p.open(rpc.Polling)
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("a session was opened in %s", took)
	}
}

func TestWhatAServerLogsHasTheNameOfItsSession(t *testing.T) {
	p := startPod(t, "")
	p.open(rpc.Polling)
	c := p.open(rpc.Polling) // on the process that was spare
	c.post(toolCall("1", "sleep", `{"ns":100000000}`))
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	waittest.Eventually(t, "the log line", func() bool {
		return strings.Contains(p.log.String(), `"session":"`+c.id[len(c.id)-8:]+`","stderr":"cancelled`)
	})
}

func TestMetricsCountRequestsByMethodsThatAreKnown(t *testing.T) {
	p := startPod(t, "")
	c := p.open(rpc.Polling)
	c.call("count")
	c.post(`{"jsonrpc":"2.0","id":1,"method":"made/up"}`).text()
	waittest.Eventually(t, "the metrics", func() bool {
		text := p.metricsText()
		return strings.Contains(text, `mcp_runner_requests_total{code="200",http_method="POST",method="tools/call"} 1`) &&
			strings.Contains(text, `method="other"} 1`) && !strings.Contains(text, "made/up") && strings.Contains(text, "mcp_runner_sessions 1")
	})
}
