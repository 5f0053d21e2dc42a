package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

func TestEachSessionHasAProcessOfItsOwn(t *testing.T) {
	p := startPod(t, "")
	a, b := p.open(rpc.Polling), p.open(rpc.Batching)
	a.call("count")
	if got := a.call("count"); got != "2" {
		t.Errorf("the first session has counted %s", got)
	}
	if got := b.call("count"); got != "1" {
		t.Errorf("the second session has counted %s", got)
	}
}

func TestAResponseWithoutAnythingBeforeItIsJSON(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	a := c.post(toolCall("1", "count", "{}"))
	if kind := a.header.Get("Content-Type"); a.status != http.StatusOK || kind != "application/json" {
		t.Errorf("status %d, content type %q", a.status, kind)
	}
}

func TestASlowResponseIsAStreamThatBeginsWithAnIDInVersionsThatKnowIt(t *testing.T) {
	p := startPod(t, "")
	for _, version := range rpc.Legacy[1:] {
		c := p.open(version)
		a := c.post(toolCall("1", "sleep", `{"ns":200000000}`))
		if !a.isStream() {
			t.Fatalf("%s: the content type is %q", version, a.header.Get("Content-Type"))
		}
		first := a.event()
		if isPrimed := len(first.Data) == 0; isPrimed != (version == rpc.Polling) || first.ID == nil {
			t.Errorf("%s: the first event is %+v", version, first)
		}
	}
}

func TestUnknownMembersAndIDsPassThroughUnchanged(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	request := `{ "x-unknown" : 1.50, "id":"a\/b","jsonrpc":"2.0","method":"tools/call","params":{"name":"line","big":12345678901234567890} }`
	a := c.post(request)
	body := a.last()
	if got := resultText(body); got != request {
		t.Errorf("the server has received %s", got)
	}
	if !strings.Contains(body, `"id":"a\/b"`) {
		t.Errorf("the client has received %s", body)
	}
}

func TestProgressGoesOnTheStreamOfItsRequest(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	other := c.post(toolCall(`"o"`, "sleep", `{"ns":500000000}`))
	messages := c.post(toolCall("1", "progress", "{}")).messages()
	if len(messages) != 3 || !strings.Contains(messages[0], `"token 1"`) || resultText(messages[2]) != "done" {
		t.Errorf("got %q", messages)
	}
	if got := other.messages(); len(got) != 1 {
		t.Errorf("the stream of the other request has %q", got)
	}
}

func TestAQuestionOfTheServerGoesOnTheStreamOfTheRequestAndItsAnswerReachesTheServer(t *testing.T) {
	c := startPod(t, "").open(rpc.Elicitation)
	general := c.get()
	a := c.post(toolCall("1", "ask", "{}"))
	question := a.event()
	id := rpc.Get(question.Data, "id")
	if method, _ := rpc.GetString(question.Data, "method"); method != "sampling/createMessage" {
		t.Fatalf("got %s", question.Data)
	}
	if reply := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"42"}}`, id)); reply.status != http.StatusAccepted {
		t.Errorf("status %d", reply.status)
	}
	if messages := a.messages(); len(messages) != 1 || !strings.Contains(resultText(messages[0]), "42") {
		t.Errorf("got %q", messages)
	}
	c.delete()
	if got := general.messages(); len(got) != 0 {
		t.Errorf("the general stream has %q too", got)
	}
}

func (c *client) delete() *answer {
	c.t.Helper()
	return c.send(http.MethodDelete, c.url, "", c.headers()...)
}

func TestMessagesAboutTheServerGoOnTheGeneralStream(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	if got := c.call("changed"); got != "done" { // nobody reads the general stream yet
		t.Fatal(got)
	}
	general := c.get()
	if event := general.event(); !strings.Contains(string(event.Data), "tools/list_changed") {
		t.Errorf("got %s", event.Data)
	}
}

func TestADisconnectIsNoCancellation(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	ctx, disconnect := context.WithCancel(t.Context())
	a, err := c.try(ctx, http.MethodPost, c.url, toolCall("1", "sleep", `{"ns":400000000}`), c.headers()...)
	if err != nil {
		t.Fatal(err)
	}
	first := a.event()
	disconnect()
	again := c.get(legacy.LastEventIDHeader, *first.ID)
	messages := again.messages()
	if len(messages) != 1 || resultText(messages[0]) != "slept" {
		t.Errorf("got %q", messages)
	}
	if strings.Contains(c.log.String(), "cancelled {") {
		t.Error("the server was told of a cancellation")
	}
}

func TestOnlyTheNamedStreamIsReplayed(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	c.call("changed")
	a := c.post(toolCall("1", "progress", "{}"))
	first := a.event()
	a.messages()
	messages := c.get(legacy.LastEventIDHeader, *first.ID).messages()
	for _, message := range messages {
		if strings.Contains(message, "list_changed") {
			t.Errorf("another stream was replayed: %q", messages)
		}
	}
	if len(messages) < 2 || resultText(messages[len(messages)-1]) != "done" {
		t.Errorf("got %q", messages)
	}
}

func TestAStreamThatWasReceivedCompletelyDoesNotBeginAgain(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	a := c.post(toolCall("1", "progress", "{}"))
	var last string
	for event := a.event(); event != nil; event = a.event() {
		last = *event.ID
	}
	if again := c.get(legacy.LastEventIDHeader, last); again.status != http.StatusNoContent {
		t.Errorf("status %d", again.status)
	}
}

func TestACancelledRequestGetsNoResponseAndItsStreamEnds(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	a := c.post(toolCall("1", "sleep", `{"ns":300000000}`))
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	if got := a.messages(); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	waittest.Eventually(t, "the cancellation at the server", func() bool { return strings.Contains(c.log.String(), `cancelled {\"requestId\":1}`) })
	if got := c.call("count"); got != "2" {
		t.Errorf("the next call: %s", got)
	}
}

func TestStatusCodes(t *testing.T) {
	p := startPod(t, "")
	c := p.open(rpc.Elicitation)
	ended := p.open(rpc.Elicitation)
	if a := ended.delete(); a.status != http.StatusNoContent {
		t.Errorf("DELETE: status %d", a.status)
	}
	ping := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for name, row := range map[string]struct {
		method, body string
		headers      []string
		want         int
	}{
		"no session id":           {"POST", ping, nil, 400},
		"unknown session":         {"POST", ping, []string{legacy.SessionHeader, "unknown"}, 404},
		"ended session":           {"POST", ping, []string{legacy.SessionHeader, ended.id}, 404},
		"GET of an ended session": {"GET", "", []string{legacy.SessionHeader, ended.id}, 404},
		"DELETE again":            {"DELETE", "", []string{legacy.SessionHeader, ended.id}, 404},
		"GET without session id":  {"GET", "", nil, 400},
		"invalid version":         {"POST", ping, []string{legacy.SessionHeader, c.id, legacy.VersionHeader, "1999-01-01"}, 400},
		"no version":              {"POST", ping, []string{legacy.SessionHeader, c.id}, 200},
		"foreign origin":          {"POST", ping, []string{legacy.SessionHeader, c.id, "Origin", "http://evil.example"}, 403},
		"origin of this machine":  {"POST", ping, []string{legacy.SessionHeader, c.id, "Origin", "http://localhost:1234"}, 200},
		"no JSON":                 {"POST", "{", []string{legacy.SessionHeader, c.id}, 400},
		"no JSON-RPC":             {"POST", "{}", []string{legacy.SessionHeader, c.id}, 400},
		"another content type":    {"POST", ping, []string{legacy.SessionHeader, c.id, "Content-Type", "text/plain"}, 415},
		"accepts no stream":       {"POST", ping, []string{legacy.SessionHeader, c.id, "Accept", "application/json"}, 406},
		"another HTTP method":     {"PUT", ping, nil, 405},
		"batch in a new version":  {"POST", "[" + ping + "]", c.headers(), 400},
		"notification":            {"POST", `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, c.headers(), 202},
		"unasked response":        {"POST", `{"jsonrpc":"2.0","id":9,"result":{}}`, c.headers(), 202},
	} {
		if a := p.send(row.method, p.url, row.body, row.headers...); a.status != row.want {
			t.Errorf("%s: status %d, want %d: %s", name, a.status, row.want, a.text())
		}
	}
}

func TestABatchIsAnsweredOnOneStream(t *testing.T) {
	c := startPod(t, "").open(rpc.Batching)
	a := c.post("[" + toolCall("1", "count", "{}") + "," + `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"},` + toolCall("2", "count", "{}") + "]")
	var ids []string
	for _, message := range a.messages() {
		ids = append(ids, string(rpc.Get([]byte(message), "id")))
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"1", "2"}) {
		t.Errorf("got responses to %v", ids)
	}
}

func TestTwoRequestsWithTheSameIDAreRefused(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	c.post(toolCall("1", "sleep", `{"ns":500000000}`))
	if a := c.post(toolCall("1.0", "count", "{}")); a.status != http.StatusBadRequest {
		t.Errorf("status %d", a.status)
	}
}

func TestANewGETReplacesTheOldOne(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	old := c.get()
	present := c.get()
	if event := old.event(); event != nil {
		t.Errorf("the old stream has %+v", event)
	}
	c.call("changed")
	if event := present.event(); !strings.Contains(string(event.Data), "list_changed") {
		t.Errorf("got %s", event.Data)
	}
}

func TestARefusedInitializeOpensNoSession(t *testing.T) {
	p := startPod(t, "refuses", "--spare-processes=0")
	a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
	if id, body := a.header.Get(legacy.SessionHeader), a.text(); id != "" || errorCode(body) != "-32602" {
		t.Errorf("session %q, %s", id, body)
	}
	if open, _, _ := p.server.Load(); open != 0 {
		t.Errorf("%d sessions", open)
	}
}

// A session with only a GET stream is idle: a known bridge never ends it.
func TestASessionWithOnlyAGETStreamIsIdle(t *testing.T) {
	p := startPod(t, "", "--idle-timeout=200ms")
	c := p.open(rpc.Polling)
	general := c.get()
	for event := general.event(); event != nil; event = general.event() {
		t.Logf("%+v", event)
	}
	if a := c.post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
}

func TestACallInProgressKeepsTheSession(t *testing.T) {
	c := startPod(t, "", "--idle-timeout=100ms").open(rpc.Polling)
	messages := c.post(toolCall("1", "sleep", fmt.Sprintf(`{"ns":%d}`, 500*time.Millisecond))).messages()
	if len(messages) != 1 || resultText(messages[0]) != "slept" {
		t.Errorf("got %q", messages)
	}
}
