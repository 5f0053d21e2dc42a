package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stream"
)

// pod is a runner in front of a fake server, in this process.
type pod struct {
	*runner
	t   *testing.T
	url string
	log *lockedBuffer
	// clients serves clients, management the management port.
	clients, management *httptest.Server
	// close ends the runner.
	close func()
}

// lockedBuffer is the log of a runner.
type lockedBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

// startPod starts a runner with a fake server. It ends with the test.
func startPod(t *testing.T, behavior string, flags ...string) *pod {
	t.Helper()
	return startPodOf(t, nil, behavior, flags...)
}

// startPodOf starts a runner of a set. It ends with the test.
func startPodOf(t *testing.T, set *podSet, behavior string, flags ...string) *pod {
	t.Helper()
	p := newPod(t, set, behavior, flags...)
	t.Cleanup(func() {
		p.close()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// newPod starts a runner of a set, which is nil if the runner is alone, with a fake server. It must be closed.
func newPod(t *testing.T, set *podSet, behavior string, flags ...string) *pod {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"--", "/usr/bin/env", fakeVariable + "=" + behavior, self}
	if strings.Contains(behavior, "shell") { // a shell is between
		command = []string{"--", "/bin/sh", "-c", fakeVariable + "='" + behavior + "' " + self + "; exit"}
	}
	return newRunnerPod(t, set, append(flags, command...)...)
}

// newRunnerPod starts a runner with flags.
func newRunnerPod(t *testing.T, set *podSet, flags ...string) *pod {
	t.Helper()
	flags = append([]string{"--pod=web-0", "--process-grace=300ms", "--max-line-bytes=1048576"}, flags...)
	c, err := parse(flags, func(string) string { return "" }, os.Hostname)
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	r, err := newRunner(c, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{runner: r, t: t, log: log, clients: listenTest(), management: listenTest()}
	if set != nil {
		r.resolver = set
		set.add(p) // its address is known before it starts, as that of a pod
	}
	clients, management, closeAll, err := r.handlers()
	if err != nil {
		t.Fatal(err)
	}
	p.clients.Config.Handler, p.management.Config.Handler = clients, management
	p.clients.Start()
	p.management.Start()
	p.url = p.clients.URL + "/mcp"
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.server.Run(ctx) })
	p.close = func() {
		cancel()
		running.Wait()
		closeAll()
		drain, end := context.WithTimeout(context.Background(), 0)
		defer end()
		r.server.Drain(drain)
		r.server.Close()
		p.clients.Close()
		p.management.Close()
	}
	return p
}

// listenTest returns a server that listens and is not started yet.
func listenTest() *httptest.Server {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ReadHeaderTimeout, server.Config.MaxHeaderBytes = time.Second, 64<<10
	return server
}

// answer is an HTTP response. A stream is read only as far as it is asked for.
type answer struct {
	t       *testing.T
	status  int
	header  http.Header
	body    io.ReadCloser
	scanner *stream.Scanner
}

// send sends an HTTP request with headers, given as pairs.
func (p *pod) send(method, url, body string, headers ...string) *answer {
	p.t.Helper()
	a, err := p.try(p.t.Context(), method, url, body, headers...)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *pod) try(ctx context.Context, method, url, body string, headers ...string) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	p.t.Cleanup(func() { _ = response.Body.Close() })
	return &answer{p.t, response.StatusCode, response.Header, response.Body, stream.NewScanner(response.Body, 64<<20)}, nil
}

// text returns the body.
func (a *answer) text() string {
	a.t.Helper()
	body, err := io.ReadAll(a.body)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(body)
}

// event returns the next event with data or a waiting time; nil at the end of the stream.
func (a *answer) event() *stream.Received {
	a.t.Helper()
	event, err := a.scanner.Next()
	if err != nil {
		return nil
	}
	return &event
}

// messages returns the messages of a stream until its end.
func (a *answer) messages() (all []string) {
	a.t.Helper()
	for event := a.event(); event != nil; event = a.event() {
		if len(event.Data) > 0 {
			all = append(all, string(event.Data))
		}
	}
	return all
}

// last returns the last message, of a stream or a body.
func (a *answer) last() string {
	a.t.Helper()
	if !a.isStream() {
		return a.text()
	}
	messages := a.messages()
	if len(messages) == 0 {
		a.t.Fatal("the stream has no message")
	}
	return messages[len(messages)-1]
}

func (a *answer) isStream() bool {
	return strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream")
}

// client is a client with a session.
type client struct {
	*pod
	id      string
	version string
}

const everyCapability = `{"roots":{"listChanged":true},"sampling":{},"elicitation":{}}`

// open opens a session.
func (p *pod) open(version string) *client {
	p.t.Helper()
	a := p.send(http.MethodPost, p.url, initialize(version))
	id := a.header.Get(legacy.SessionHeader)
	if body := a.text(); a.status != http.StatusOK || id == "" {
		p.t.Fatalf("initialize: status %d, session %q, %s", a.status, id, body)
	}
	c := &client{p, id, version}
	if a := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); a.status != http.StatusAccepted || a.text() != "" {
		p.t.Fatalf("notifications/initialized: status %d", a.status)
	}
	return c
}

func initialize(version string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"t","version":"1"}}}`,
		version, everyCapability)
}

func (c *client) headers(more ...string) []string {
	return append([]string{legacy.SessionHeader, c.id, legacy.VersionHeader, c.version}, more...)
}

func (c *client) post(body string) *answer {
	c.t.Helper()
	return c.send(http.MethodPost, c.url, body, c.headers()...)
}

func (c *client) get(more ...string) *answer {
	c.t.Helper()
	return c.send(http.MethodGet, c.url, "", c.headers(more...)...)
}

func toolCall(id, name, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"token %s"}}}`,
		id, name, arguments, strings.Trim(id, `"`))
}

// call calls a tool and returns the text of its result, or the error.
func (c *client) call(name string) string {
	c.t.Helper()
	return resultText(c.post(toolCall("7", name, "{}")).last())
}

// resultText returns the text of a result, or the error as it is.
func resultText(message string) string {
	var response struct {
		Result struct {
			Content []struct{ Text string }
		}
	}
	if json.Unmarshal([]byte(message), &response) != nil || len(response.Result.Content) == 0 {
		return message
	}
	return response.Result.Content[0].Text
}

func errorCode(message string) string { return string(rpc.Get([]byte(message), "error", "code")) }

// children returns the ids of the processes that have an ancestor in this process.
func children(t *testing.T) (pids []string) {
	t.Helper()
	parents := map[string]string{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(content), " (")
		fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
		parents[filepath.Base(filepath.Dir(file))] = fields[1]
	}
	self := fmt.Sprint(os.Getpid())
	for pid := range parents {
		for at := pid; at != "" && at != "0"; at = parents[at] {
			if at == self && pid != self {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// isGone reports whether a process has ended. A zombie has: it belongs to the first process of the machine.
func isGone(pid string) bool {
	content, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	return err != nil || strings.Contains(string(content), ") Z ")
}
