package mcp

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// sseServer returns the URL of a server of go-sdk with the transport sse, for a pod. Its tools tell the name of the pod, and what the
// client answers to a request of the server.
func sseServer(t *testing.T, pod string) string {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: pod, Version: "1"}, nil)
	text := func(text string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
	}
	mcp.AddTool(server, &mcp.Tool{Name: "pod"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
		return text(pod), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(ctx context.Context, request *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		answer, err := request.Session.Elicit(ctx, &mcp.ElicitParams{Message: "who?"})
		if err != nil {
			return nil, nil, err
		}
		return text(pod + " " + answer.Action), nil, nil
	})
	mux := http.NewServeMux()
	mux.Handle("/sse", mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	listening := httptest.NewServer(mux)
	t.Cleanup(listening.CloseClientConnections) // streams have no end
	return listening.URL
}

// startSSEPods starts pods, and returns the URL of the Service in front of them.
func startSSEPods(t *testing.T, count int) string {
	t.Helper()
	service := startService(t, count, func(ordinal int) []string {
		return []string{"--sse", "--upstream=" + sseServer(t, fmt.Sprintf("web-%d", ordinal)) + "/sse"}
	})
	return strings.TrimSuffix(service.url, "/mcp")
}

// connectSSE opens a session over HTTP+SSE with a client that answers the requests of the server.
func connectSSE(t *testing.T, service string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
	})
	one, err := client.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: service + "/sse"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	return one
}

// TestAServerWithTheTransportSSEScales: each message of a client finds its session, whichever pod gets it, and the sessions are on all pods.
func TestAServerWithTheTransportSSEScales(t *testing.T) {
	service := startSSEPods(t, 3)
	var sessions []*mcp.ClientSession
	for range 12 {
		sessions = append(sessions, connectSSE(t, service))
	}
	var mutex sync.Mutex
	used := map[string]bool{}
	var clients sync.WaitGroup
	for _, one := range sessions {
		clients.Go(func() {
			pod := one.InitializeResult().ServerInfo.Name
			for range 20 {
				result, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "pod"})
				if err != nil {
					t.Error(err)
					return
				}
				if got := result.Content[0].(*mcp.TextContent).Text; got != pod {
					t.Errorf("the session of %s was answered by %s", pod, got)
				}
			}
			result, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask"})
			if err != nil {
				t.Error(err)
				return
			}
			if got := result.Content[0].(*mcp.TextContent).Text; got != pod+" decline" {
				t.Errorf("the answer of the client has come back as %q", got)
			}
			mutex.Lock()
			defer mutex.Unlock()
			used[pod] = true
		})
	}
	clients.Wait()
	if len(used) != 3 {
		t.Errorf("the sessions are on %v", used)
	}
}

// TestAClientThatTriesStreamableHTTPFirstFallsBack: the specification lets a client post initialize, and open the stream of HTTP+SSE if the answer is a status
// from 400 to 499.
func TestAClientThatTriesStreamableHTTPFirstFallsBack(t *testing.T) {
	service := startSSEPods(t, 2)
	for range 4 { // at each pod
		response := postInitialize(t, service+"/sse")
		_ = response.Body.Close()
		if response.StatusCode < 400 || response.StatusCode > 499 {
			t.Errorf("status %d", response.StatusCode)
		}
	}
	one := connectSSE(t, service)
	result, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "pod"})
	if text := textOf(t, result, err); text != one.InitializeResult().ServerInfo.Name {
		t.Errorf("answered by %s", text)
	}
}
