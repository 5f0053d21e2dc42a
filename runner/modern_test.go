package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// modernBody returns a request of 2026-07-28. Members are added to its parameters.
func modernBody(id, method, members string) string {
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":%q,`+
		`"io.modelcontextprotocol/clientCapabilities":{},"progressToken":"mine"}%s}}`, id, method, rpc.Modern, members)
}

func (p *pod) modern(body string, headers ...string) *answer {
	p.t.Helper()
	method, _ := rpc.GetString([]byte(body), "method")
	name, _ := rpc.GetString([]byte(body), "params", "name")
	all := []string{legacy.VersionHeader, rpc.Modern, "Mcp-Method", method, "Mcp-Name", name}
	return p.send(http.MethodPost, p.url, body, append(all, headers...)...)
}

func modernCall(id, name, arguments string) string {
	return modernBody(id, "tools/call", fmt.Sprintf(`"name":%q,"arguments":%s`, name, arguments))
}

func TestRequestsWithoutSessionsShareAProcess(t *testing.T) {
	p := startPod(t, "modern")
	for i := range 3 {
		a := p.modern(modernCall(`"same"`, "count", "{}"))
		body := a.text()
		if got := resultText(body); got != fmt.Sprint(i+1) || string(rpc.Get([]byte(body), "id")) != `"same"` {
			t.Errorf("got %s", body)
		}
		if a.header.Get(legacy.SessionHeader) != "" {
			t.Error("a session id was given")
		}
	}
}

func TestClientsWithTheSameIDsAndTokensAreKeptApart(t *testing.T) {
	p := startPod(t, "modern")
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			messages := p.modern(modernCall("1", "progress", "{}")).messages()
			if len(messages) != 3 || !strings.Contains(messages[0], `"progressToken":"mine"`) || string(rpc.Get([]byte(messages[2]), "id")) != "1" {
				t.Errorf("got %q", messages)
			}
		})
	}
	clients.Wait()
}

func TestTheHeadersHaveToMatchTheBody(t *testing.T) {
	p := startPod(t, "modern")
	call := modernCall("1", "count", "{}")
	region := modernCall("1", "region", `{"region":"eu"}`)
	for name, row := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"all match":                  {call, nil, 200, ""},
		"another method":             {call, []string{"Mcp-Method", "tools/list"}, 400, "-32020"},
		"no method":                  {call, []string{"Mcp-Method", ""}, 400, "-32020"},
		"another name":               {call, []string{"Mcp-Name", "other"}, 400, "-32020"},
		"an encoded name":            {call, []string{"Mcp-Name", "=?base64?Y291bnQ=?="}, 200, ""},
		"a wrongly encoded name":     {call, []string{"Mcp-Name", "=?base64?%%%?="}, 400, "-32020"},
		"no version":                 {call, []string{legacy.VersionHeader, ""}, 400, "-32020"},
		"another version":            {call, []string{legacy.VersionHeader, "2027-01-01"}, 400, "-32020"},
		"unsupported version":        {strings.Replace(call, rpc.Modern, "2027-01-01", 1), []string{legacy.VersionHeader, "2027-01-01"}, 400, "-32022"},
		"unknown method":             {modernBody("1", "no/such", ""), nil, 404, "-32601"},
		"a method of older versions": {modernBody("1", "ping", ""), nil, 404, "-32601"},
		"unknown tool":               {modernCall("1", "none", "{}"), nil, 400, "-32602"},
		"no _meta":                   {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil, 400, "-32602"},
		"a parameter in a header":    {region, []string{"Mcp-Param-Region", "eu"}, 400, "-32602"}, // reaches the server, which does not know it
		"another parameter":          {region, []string{"Mcp-Param-Region", "us"}, 400, "-32020"},
		"no parameter":               {region, nil, 400, "-32020"},
		"accepts no stream":          {call, []string{"Accept", "application/json"}, 406, "-32600"},
	} {
		a := p.modern(row.body, row.headers...)
		body := a.text()
		if code := errorCode(body); a.status != row.status || code != row.code {
			t.Errorf("%s: status %d, code %q: %s", name, a.status, code, body)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if a := p.send(method, p.url, "", legacy.VersionHeader, rpc.Modern); a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, a.status)
		}
	}
}

func TestASupportedVersionIsOffered(t *testing.T) {
	for behavior, want := range map[string]string{
		"modern": `["2026-07-28","2025-03-26","2025-06-18","2025-11-25"]`, "": `["2025-03-26","2025-06-18","2025-11-25"]`,
	} {
		p := startPod(t, behavior)
		body := strings.Replace(modernBody("1", "server/discover", ""), rpc.Modern, "2027-01-01", 1)
		a := p.modern(body, legacy.VersionHeader, "2027-01-01")
		text := a.text()
		if got := string(rpc.Get([]byte(text), "error", "data", "supported")); a.status != http.StatusBadRequest || errorCode(text) != "-32022" || got != want {
			t.Errorf("%q: status %d, %s", behavior, a.status, text)
		}
	}
}

func TestTheEndOfTheConnectionCancels(t *testing.T) {
	p := startPod(t, "modern")
	ctx, disconnect := context.WithCancel(t.Context())
	_, err := p.try(ctx, http.MethodPost, p.url, modernCall("1", "sleep", `{"ns":10000000000}`), legacy.VersionHeader, rpc.Modern, "Mcp-Method", "tools/call",
		"Mcp-Name", "sleep")
	if err != nil {
		t.Fatal(err)
	}
	disconnect()
	waittest.Eventually(t, "the cancellation at the server", func() bool { return strings.Contains(p.log.String(), "cancelled {") })
}

func TestASubscriptionCarriesTheIDOfTheClient(t *testing.T) {
	p := startPod(t, "modern")
	a := p.modern(modernBody(`"sub"`, "subscriptions/listen", ""))
	event := a.event()
	if got := string(rpc.Get(event.Data, "params", "_meta", "io.modelcontextprotocol/subscriptionId")); got != `"sub"` {
		t.Errorf("got %s", event.Data)
	}
	go p.server.Drain(t.Context())
	messages := a.messages()
	if len(messages) != 1 {
		t.Fatalf("got %q", messages)
	}
	last := []byte(messages[0])
	if kind, _ := rpc.GetString(last, "result", "resultType"); kind != "complete" || string(rpc.Get(last, "id")) != `"sub"` {
		t.Errorf("got %s", last)
	}
}

func TestAMessageWithoutAnAddresseeReachesNoWrongClient(t *testing.T) {
	p := startPod(t, "modern")
	other := p.modern(modernCall("1", "sleep", `{"ns":2500000000}`)) // longer than hold: its stream has begun
	p.modern(modernCall("2", "log", "{}")).last()
	if messages := other.messages(); len(messages) != 1 {
		t.Errorf("got %q", messages)
	}
}

func TestADeadSharedProcessIsReplaced(t *testing.T) {
	p := startPod(t, "modern")
	text := p.modern(modernCall("1", "exit", "{}")).last()
	if errorCode(text) != "-32000" || !strings.Contains(text, "exit status 3") {
		t.Errorf("got %s", text)
	}
	if got := resultText(p.modern(modernCall("1", "count", "{}")).last()); got != "1" {
		t.Errorf("got %s", got)
	}
}

// The question of the protocol versions is unknown to servers with sessions. Some ignore it, and some end.
func TestAServerWithSessionsIsToldWhateverItAnswers(t *testing.T) {
	for _, behavior := range []string{"", "ignores", "hangs-up", "garbage"} {
		p := startPod(t, behavior)
		waittest.Eventually(t, "readiness", func() bool { return p.send(http.MethodGet, p.management.URL+"/readyz", "").status == http.StatusOK })
		if body := p.modern(modernBody("1", "server/discover", "")).text(); errorCode(body) != "-32022" {
			t.Errorf("%q: got %s", behavior, body)
		}
		if got := p.open(rpc.Polling).call("count"); got != "1" {
			t.Errorf("%q: got %s", behavior, got)
		}
	}
}
