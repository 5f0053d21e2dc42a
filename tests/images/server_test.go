package images_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mcpserver-operator/tests/images"
)

// server is the unpacked image of the test server.
type server struct {
	t    *testing.T
	root string
	port string
}

func newServer(t *testing.T) server {
	return server{t: t, root: unpack(t, build(t, images.Server)), port: freePort(t)}
}

func (s server) start(args ...string) *container {
	s.t.Helper()
	args = append([]string{"-port", s.port}, args...)
	return start(s.t, config(s.t, build(s.t, images.Server)), s.root, nil, args...)
}

func (s server) url(path string) string {
	return "http://127.0.0.1:" + s.port + path
}

// mustCall returns the text of a tool's response.
func (s server) mustCall(tool string, arguments map[string]any) string {
	s.t.Helper()
	result, _ := call(s.t, s.url("/mcp"), tool, arguments)
	if !result.OK {
		s.t.Fatalf("%s failed: %s", tool, result.Error)
	}
	return result.Text
}

func TestServerIsHealthy(t *testing.T) {
	s := newServer(t)
	s.start()
	s.mustCall("whoami", nil)
	response, err := http.Get(s.url("/healthz"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Instance") == "" {
		t.Errorf("/healthz returns %s from instance %q", response.Status, response.Header.Get("X-Instance"))
	}
}

func TestServerIsReadyLate(t *testing.T) {
	s := newServer(t)
	started := time.Now()
	s.start("-ready-after", "1s")
	s.mustCall("whoami", nil)
	if took := time.Since(started); took < time.Second {
		t.Errorf("the server responds after %s, want at least 1s", took)
	}
}

func TestServerExits(t *testing.T) {
	s := newServer(t)
	exit := []string{"-exit-after", "10ms", "-exit-code", "7", "-termination-message", "no licence", "-termination-log", "/tmp/log", "-once", "/tmp/once"}
	if code := s.start(exit...).exitCode(t); code != 7 {
		t.Errorf("the server exited with %d, want 7", code)
	}
	if message := s.read("tmp/log"); message != "no licence" {
		t.Errorf("unexpected termination message %q", message)
	}

	running := s.start(append(exit, "-once", "/tmp/once")...)
	s.mustCall("whoami", nil)
	time.Sleep(50 * time.Millisecond) // five times -exit-after
	s.mustCall("exit", map[string]any{"code": 3, "message": "asked to"})
	if code := running.exitCode(t); code != 3 {
		t.Errorf("the second server exited with %d, want 3, the exit code of the tool", code)
	}
	if message := s.read("tmp/log"); message != "asked to" {
		t.Errorf("the termination message is %q", message)
	}
}

func (s server) read(file string) string {
	s.t.Helper()
	content, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

func TestServerStops(t *testing.T) {
	s := newServer(t)
	running := s.start()
	s.mustCall("whoami", nil)
	s.openStream() // an open stream must not prevent the exit
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := running.exitCode(t); code != 0 {
		t.Errorf("the server exited with %d, want 0", code)
	}
}

func TestServerEndsCalls(t *testing.T) {
	s := newServer(t)
	running := s.start()
	s.mustCall("whoami", nil)
	terminated := make(chan error, 1)
	go func() {
		for !strings.Contains(running.output.String(), "sleeping") && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		terminated <- running.Process.Signal(syscall.SIGTERM)
	}()
	s.mustCall("sleep", map[string]any{"milliseconds": 600})
	if err := <-terminated; err != nil {
		t.Errorf("ending the server while it answers: %v", err)
	}
	running.exitCode(t)
}

// openStream opens the event stream of a session. The stream ends with the session.
func (s server) openStream() {
	s.t.Helper()
	session := s.send(http.MethodPost, "", `{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": `+
		`{"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "v1"}}}`).Get("Mcp-Session-Id")
	if session == "" {
		s.t.Fatal("initialize opened no session")
	}
	s.send(http.MethodPost, session, `{"jsonrpc": "2.0", "method": "notifications/initialized"}`)
	if got := s.send(http.MethodGet, session, "").Get("Content-Type"); got != "text/event-stream" {
		s.t.Fatalf("the stream of the session returns %q", got)
	}
}

// send sends a request of a session and returns the response headers. The response body stays open until the test ends.
func (s server) send(method, session, body string) http.Header {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url("/mcp"), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Content-Type", "application/json")
	if session != "" {
		request.Header.Set("Mcp-Session-Id", session)
		request.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode >= http.StatusBadRequest {
		s.t.Fatalf("%s returns %s", method, response.Status)
	}
	return response.Header
}

func TestServerIgnoresSIGTERM(t *testing.T) {
	s := newServer(t)
	running := s.start("-ignore-sigterm")
	s.mustCall("whoami", nil)
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.mustCall("whoami", nil)
		time.Sleep(20 * time.Millisecond)
	}
}

func TestServerAllocates(t *testing.T) {
	s := newServer(t)
	running := s.start("-allocate", "100")
	s.mustCall("whoami", nil)
	running.waitForMemory(t, 100)
	s.mustCall("allocate", map[string]any{"mebibytes": 50})
	running.waitForMemory(t, 150)
}

// waitForMemory waits until the program uses the given amount of memory, in MiB.
func (c *container) waitForMemory(t *testing.T, mebibytes int) {
	t.Helper()
	var resident int
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "VmRSS:")
		if _, err := fmt.Sscan(after, &resident); err != nil {
			t.Fatal(err)
		}
		if resident >= mebibytes<<10 {
			return
		}
	}
	t.Errorf("the server uses %d KiB of memory after 30s, want %d MiB", resident, mebibytes)
}

func TestServerBurns(t *testing.T) {
	s := newServer(t)
	running := s.start("-burn", "0.5")
	s.mustCall("whoami", nil)
	begin := running.cpu(t)
	for deadline := time.Now().Add(30 * time.Second); running.cpu(t)-begin < 300*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server used %s of CPU time in 30s, want half a CPU", running.cpu(t)-begin)
		}
	}
	s.mustCall("burn", map[string]any{"share": 0})
	begin = running.cpu(t)
	time.Sleep(time.Second)
	if used := running.cpu(t) - begin; used > 200*time.Millisecond {
		t.Errorf("the server used %s of CPU time in the second after burn was set to 0", used)
	}
}

// cpu returns the CPU time of the program.
func (c *container) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the program name may contain spaces
	fields := strings.Fields(after)
	var user, system int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

func TestServerStores(t *testing.T) {
	s := newServer(t)
	running := s.start("-data", "/tmp")
	s.mustCall("put", map[string]any{"key": "colour", "value": "blue"})
	for key, want := range map[string]string{"absent": "no such file", "../etc/passwd": "without a folder", "": "without a folder"} {
		result, _ := call(t, s.url("/mcp"), "get", map[string]any{"key": key})
		if result.OK || !strings.Contains(result.Error, want) {
			t.Errorf("get %q: %+v, want an error with %q", key, result, want)
		}
	}
	if err := running.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-running.ended
	s.start("-data", "/tmp")
	if text := s.mustCall("get", map[string]any{"key": "colour"}); !strings.Contains(text, `"value":"blue"`) {
		t.Errorf("after a restart, the response is %s", text)
	}
}
