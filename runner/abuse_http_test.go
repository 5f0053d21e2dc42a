package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// startHTTPPod starts a runner in front of an HTTP server. It ends with the test.
func startHTTPPod(t *testing.T, upstream string, flags ...string) *pod {
	t.Helper()
	p := newRunnerPod(t, nil, append(flags, "--upstream="+upstream+"/mcp")...)
	t.Cleanup(p.close)
	return p
}

// httpSessions is an HTTP server that only opens and ends sessions, and has a silent stream for each.
type httpSessions struct{ opened, ended atomic.Int64 }

func (s *httpSessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodDelete:
		s.ended.Add(1)
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case r.Header.Get(legacy.SessionHeader) == "":
		w.Header().Set(legacy.SessionHeader, fmt.Sprint(s.opened.Add(1)))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"h","version":"1"}}}`)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func TestThousandsOfIdleSessionsOfAnHTTPServerEndAndLeaveNothingBehind(t *testing.T) {
	const sessions, streams = 2500, 200
	server := &httpSessions{}
	upstream := httptest.NewServer(server)
	t.Cleanup(upstream.Close)
	p := startHTTPPod(t, upstream.URL, "--max-sessions=5000", "--idle-timeout=1s")
	leavesNothing(t, func() {
		before := server.ended.Load()
		var clients sync.WaitGroup
		for worker := range 10 {
			clients.Go(func() {
				for i := range sessions / 10 {
					a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
					if text := a.text(); a.status != http.StatusOK {
						t.Errorf("status %d, %s", a.status, text)
						return
					}
					if worker*sessions/10+i >= streams {
						continue
					}
					id := a.header.Get(legacy.SessionHeader)
					clients.Go(func() { p.send(http.MethodGet, p.url, "", legacy.SessionHeader, id).text() }) // until the session ends
				}
			})
		}
		clients.Wait()
		waittest.Eventually(t, "the end of all sessions", func() bool {
			open, _, _ := p.server.Load()
			return open == 0 && server.ended.Load()-before == sessions
		})
	})
}

func TestAnHTTPServerThatAnswersNonsenseGivesAClearError(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var answer atomic.Value
	answer.Store("")
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Read(make([]byte, 4096)) // the request
			_, _ = io.WriteString(connection, answer.Load().(string))
			_ = connection.Close()
		}
	}()
	p := startHTTPPod(t, "http://"+listener.Addr().String())
	leavesNothing(t, func() {
		for name, text := range map[string]string{
			"nothing": "", "garbage": "Welcome to the server!\n\n", "a header bomb": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		} {
			answer.Store(text)
			a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
			if body := a.text(); a.status != http.StatusBadGateway || errorCode(body) != "-32000" {
				t.Errorf("%s: status %d, %s", name, a.status, body)
			}
		}
	})
	if open, _, _ := p.server.Load(); open != 0 {
		t.Errorf("%d sessions", open)
	}
}
