package monitoring

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"mcpserver-operator/tests/cluster"
)

// serverVariable makes the test binary a stdio server.
const serverVariable = "MONITORING_SERVER"

// serve is a stdio server with the tool echo.
func serve() {
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "echo"}}}, nil, nil
	})
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		log.Fatal(err)
	}
}

// stdioServer are the arguments of a runner for a stdio server.
func stdioServer() []string { return []string{"--", os.Args[0]} }

// pod is a runner that runs as in a pod of an MCPServer.
type pod struct {
	name, listen, management string
	command                  *exec.Cmd
}

// startPods starts the runners of the pods of an MCPServer. They end with the test.
func startPods(t *testing.T, server string, replicas int, args ...string) (pods []*pod) {
	t.Helper()
	binary, err := theCluster.Runner(t.Context())
	cluster.Must(t, err)
	var peers []string
	for ordinal := range replicas {
		one := &pod{name: server + "-" + strconv.Itoa(ordinal), listen: freeAddress(t), management: freeAddress(t)}
		peers = append(peers, one.listen+"/"+one.management)
		pods = append(pods, one)
	}
	for _, one := range pods {
		logged, err := os.Create(filepath.Join(t.TempDir(), one.name))
		cluster.Must(t, err)
		one.command = exec.Command(binary, append([]string{
			"--listen=" + one.listen, "--management=" + one.management, "--pod=" + one.name, "--peers=" + strings.Join(peers, ","),
		}, args...)...)
		one.command.Env = append(os.Environ(), serverVariable+"=yes")
		one.command.Stdout, one.command.Stderr = logged, logged
		cluster.Must(t, one.command.Start())
		t.Cleanup(func() {
			one.kill()
			cluster.Must(t, logged.Close())
			if content, err := os.ReadFile(logged.Name()); err == nil && t.Failed() {
				t.Logf("the log of pod %s:\n%s", one.name, content)
			}
		})
	}
	for _, one := range pods {
		one.answers(t, "/healthz")
	}
	return pods
}

// answers waits until a probe of the kubelet succeeds.
func (p *pod) answers(t *testing.T, probe string) {
	t.Helper()
	cluster.MustEventually(t, "the probe "+probe+" of pod "+p.name, func() (string, bool) {
		response, err := http.Get("http://" + p.management + probe)
		if err != nil {
			return err.Error(), false
		}
		defer response.Body.Close()
		return response.Status, response.StatusCode == http.StatusOK
	})
}

// kill ends the pod at once. Its server ends when its input is closed.
func (p *pod) kill() {
	_ = p.command.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = p.command.Wait()
}

// targets returns the pods as targets, with the labels that the Prometheus operator gives them.
func targets(namespace, server string, pods []*pod) (all []target) {
	for _, one := range pods {
		all = append(all, target{[]string{one.management}, map[string]string{
			"namespace": namespace, "pod": one.name, "container": "mcp", "endpoint": "runner",
			"__meta_kubernetes_pod_label_app_kubernetes_io_instance": server,
		}})
	}
	return all
}

// session is a session of a client of protocol version 2025-06-18. Later versions have no sessions.
type session struct {
	pods []*pod
	id   string
	next atomic.Int64
}

// open opens a session with an MCPServer. It returns nil and the status if the server refuses.
func open(ctx context.Context, pods []*pod) (*session, int) {
	s := &session{pods: pods}
	status := s.post(ctx, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},
		"clientInfo":{"name":"test","version":"1"}}}`)
	if status != http.StatusOK || s.id == "" {
		return nil, status
	}
	return s, s.post(ctx, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// call calls the tool of the server, and returns the status.
func (s *session) call(ctx context.Context) int {
	return s.post(ctx, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}`)
}

// post sends a message to the next pod, as a Service may. It returns the status; 0 if there is no complete answer.
func (s *session) post(ctx context.Context, message string) int {
	to := s.pods[int(s.next.Add(1))%len(s.pods)]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.listen+"/mcp", strings.NewReader(message))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	if s.id != "" {
		request.Header.Set("Mcp-Session-Id", s.id)
		request.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	if id := response.Header.Get("Mcp-Session-Id"); id != "" {
		s.id = id
	}
	return response.StatusCode
}

// repeat does something twice per second until the end of the test.
func repeat(t *testing.T, do func(context.Context)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			do(ctx)
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}
