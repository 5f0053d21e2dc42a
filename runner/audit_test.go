package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// auditLines returns the audit lines of tool calls, when there are as many as expected.
func (p *pod) auditLines(count int) (lines []map[string]any) {
	p.t.Helper()
	waittest.Eventually(p.t, fmt.Sprintf("%d audit lines", count), func() bool {
		lines = nil
		for line := range strings.Lines(p.log.String()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "request" && fields["method"] == "tools/call" {
				lines = append(lines, fields)
			}
		}
		return len(lines) >= count
	})
	if len(lines) > count {
		p.t.Fatalf("%d audit lines, want %d", len(lines), count)
	}
	return lines
}

func TestTheAuditNamesTheRequestAndNotItsContent(t *testing.T) {
	p := startPod(t, "", "--audit")
	c := p.open(rpc.Polling)
	c.post(toolCall("1", "line", `{"password":"secret"}`)).text()
	c.post(toolCall("2", "error", `{}`)).text()
	c.post(toolCall("3", "none", `{}`)).text()
	lines := p.auditLines(3)
	for i, want := range []map[string]any{
		{"name": "line", "outcome": "ok"}, {"name": "error", "outcome": "error"}, {"name": "none", "outcome": "error", "error": "-32602"},
	} {
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, lines[i][key], value)
			}
		}
		if id := lines[i]["session"]; id != c.id[len(c.id)-8:] {
			t.Errorf("the session is %v", id)
		}
		if lines[i]["status"] != float64(200) || lines[i]["duration_ms"] == nil {
			t.Errorf("line %d: %v", i, lines[i])
		}
	}
	if log := p.log.String(); strings.Contains(log, "secret") || strings.Contains(log, c.id) {
		t.Error("the log has the content of a request, or a session id")
	}
}

func TestTheAuditHasArgumentsAndResultsIfAsked(t *testing.T) {
	for flag, want := range map[string]map[string]any{
		"--audit-arguments": {"arguments": `{"a":"b"}`, "result": nil},
		"--audit-results":   {"arguments": nil, "result": `{"content":[{"type":"text","text":"1"}]}`},
	} {
		p := startPod(t, "", "--audit", flag)
		p.open(rpc.Polling).post(toolCall("1", "count", `{"a":"b"}`)).text()
		for key, value := range want {
			if got := p.auditLines(1)[0][key]; got != value {
				t.Errorf("%s: %s is %v, want %v", flag, key, got, value)
			}
		}
	}
	p := startPod(t, "", "--audit", "--audit-results")
	p.open(rpc.Polling).post(toolCall("1", "line", `{"a":"`+strings.Repeat("x", 2000)+`"}`)).text()
	if got := p.auditLines(1)[0]["result"].(string); len(got) != 1024 {
		t.Errorf("a long result has %d bytes in the log", len(got))
	}
}

// openOnOneOfTwo starts two pods with an audit, and opens a session. It returns the pod that has the session, and the other.
func openOnOneOfTwo(t *testing.T) (c *client, owner, other *pod) {
	t.Helper()
	pods := startPods(t, 2, "--audit")
	c = pods[0].open(rpc.Polling)
	if open, _, _ := pods[0].server.Load(); open == 0 {
		return c, pods[1], pods[0]
	}
	return c, pods[0], pods[1]
}

func TestAForwardedRequestHasOneAuditLineWhereItIsAnswered(t *testing.T) {
	c, owner, other := openOnOneOfTwo(t)
	c.elsewhere(other).call("count")
	owner.auditLines(1)
	waittest.Eventually(t, "the end of the forwarded request", func() bool {
		return strings.Contains(other.metricsText(), `mcp_runner_requests_total{code="200",http_method="POST",method="tools/call"} 1`)
	})
	other.auditLines(0)
}

func TestARequestWhoseForwardedAnswerIsCutOffHasAnAuditLine(t *testing.T) {
	c, owner, other := openOnOneOfTwo(t)
	call := c.elsewhere(other).post(toolCall("1", "never", "{}"))
	if call.event() == nil { // the answer has begun
		t.Fatal("no stream")
	}
	owner.clients.CloseClientConnections()
	if line := other.auditLines(1)[0]; line["outcome"] != "error" || line["name"] != "never" || line["status"] != float64(http.StatusOK) {
		t.Errorf("got %v", line)
	}
	waittest.Eventually(t, "the metric", func() bool {
		return strings.Contains(other.metricsText(), `mcp_runner_requests_total{code="200",http_method="POST",method="tools/call"} 1`)
	})
}
