package mcp

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The protocol versions of connect. Without one, the client asks for the newest and falls back to what the server offers.
const (
	newest  = ""
	polling = "2025-11-25"
)

// connect opens a session with the client of go-sdk.
func connect(t *testing.T, transport mcp.Transport, version string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	one, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	return one
}

func textOf(t *testing.T, result *mcp.CallToolResult, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Content) == 0 {
		t.Fatal("the result is empty")
	}
	text, isText := result.Content[0].(*mcp.TextContent)
	if !isText {
		t.Fatalf("the result is a %T", result.Content[0])
	}
	return text.Text
}

func TestTheClientOfGoSDKWorks(t *testing.T) {
	runner := startRunner(t, "--sse")
	streamable := func() mcp.Transport { return &mcp.StreamableClientTransport{Endpoint: runner.url} }
	for name, row := range map[string]struct {
		transport     mcp.Transport
		version, want string
	}{
		"without sessions": {streamable(), newest, "2026-07-28"},
		"2025-11-25":       {streamable(), polling, polling},
		"2025-06-18":       {streamable(), "2025-06-18", "2025-06-18"},
		"2025-03-26":       {streamable(), "2025-03-26", "2025-03-26"},
		"HTTP+SSE":         {&mcp.SSEClientTransport{Endpoint: strings.TrimSuffix(runner.url, "/mcp") + "/sse"}, "2024-11-05", "2024-11-05"},
	} {
		t.Run(name, func(t *testing.T) {
			one := connect(t, row.transport, row.version)
			if got := one.InitializeResult().ProtocolVersion; got != row.want {
				t.Errorf("the version is %s", got)
			}
			result, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "test_simple_text"})
			if text := textOf(t, result, err); text == "" {
				t.Error("the text is empty")
			}
		})
	}
}

// rate is what was measured of 20 clients with calls each.
type rate struct {
	perSecond float64
	median    time.Duration
}

func measure(t *testing.T, url string) rate {
	t.Helper()
	const clients, calls = 20, 50
	var sessions []*mcp.ClientSession
	for range clients {
		sessions = append(sessions, connect(t, &mcp.StreamableClientTransport{Endpoint: url}, polling))
	}
	var all []time.Duration
	var mutex sync.Mutex
	var working sync.WaitGroup
	begin := time.Now()
	for _, one := range sessions {
		working.Go(func() {
			for range calls {
				at := time.Now()
				if _, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "test_simple_text"}); err != nil {
					t.Error(err)
					return
				}
				mutex.Lock()
				all = append(all, time.Since(at))
				mutex.Unlock()
			}
		})
	}
	working.Wait()
	took := time.Since(begin)
	if len(all) == 0 {
		t.Fatal("no call has succeeded")
	}
	slices.Sort(all)
	return rate{float64(len(all)) / took.Seconds(), all[len(all)/2]}
}

// The numbers depend on the machine and its load: they are logged. The test fails only if the runner is out of all proportion.
func TestTheRunnerIsAboutAsFastAsTheHTTPOfTheServer(t *testing.T) {
	own, runner := measure(t, startServer(t, "-stateless=false").url), measure(t, startRunner(t).url)
	t.Logf("the HTTP of the server: %.0f calls/s, median %s", own.perSecond, own.median)
	t.Logf("the runner:             %.0f calls/s, median %s", runner.perSecond, runner.median)
	if runner.perSecond < own.perSecond/4 {
		t.Error("the runner is slower than a quarter of it")
	}
}

// resident returns the memory of a process in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			size, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return size
		}
	}
	t.Fatal("the size is unknown")
	return 0
}

// openIdle opens a session without the stream of the server, and closes the connection.
func openIdle(t *testing.T, url string) {
	t.Helper()
	response := postInitialize(t, url)
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", response.StatusCode, err)
	}
}

// postInitialize sends the request initialize. The caller closes the body of the response.
func postInitialize(t *testing.T, url string) *http.Response {
	t.Helper()
	const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"test","version":"1"}}}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(initialize))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// The client of go-sdk keeps a stream of the server open for each session, which an idle session does not have.
func TestTheRunnerNeedsLittleMemoryForManySessions(t *testing.T) {
	server := startServer(t, "-stateless=false")
	idle := func(t *testing.T, url string) { openIdle(t, url) }
	streaming := func(t *testing.T, url string) {
		one := connect(t, &mcp.StreamableClientTransport{Endpoint: url}, polling)
		if _, err := one.ListTools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	ofStdio, ofHTTP := []string{"--", programs.server}, []string{"--upstream=" + server.url}
	for name, row := range map[string]struct {
		flags []string
		open  func(*testing.T, string)
		most  int // MiB
	}{
		"HTTP, idle":          {ofHTTP, idle, 20},
		"HTTP, with a stream": {ofHTTP, streaming, 60},
		"stdio, idle":         {ofStdio, idle, 30},
		"stdio, with streams": {ofStdio, streaming, 60},
	} {
		t.Run(name, func(t *testing.T) {
			runner := startRunnerOf(t, row.flags...)
			for range 200 {
				row.open(t, runner.url)
			}
			size := resident(t, runner.command.Process.Pid)
			t.Logf("200 sessions: %.1f MiB", float64(size)/1024)
			if size > row.most<<10 {
				t.Errorf("the runner uses more than %d MiB", row.most)
			}
		})
	}
}
