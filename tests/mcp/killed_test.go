package mcp

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestNoSessionEndsWhenAPodIsKilled lets sessions call all the time while one of three pods is killed and does not come back. A call that was in progress on
// this pod may fail, also one that reached it while its process was ending; no call that begins afterwards may. tests/node has the same with real pods.
func TestNoSessionEndsWhenAPodIsKilled(t *testing.T) {
	const sessions = 20
	service := startService(t, 3, ofStdio(programs.server))
	var isGone atomic.Bool
	end := make(chan struct{})
	var calls, failed atomic.Int64
	var running sync.WaitGroup
	for range sessions {
		one := connect(t, &mcp.StreamableClientTransport{Endpoint: service.url, DisableStandaloneSSE: true}, polling)
		running.Go(func() {
			for {
				begin, beganAfter := time.Now(), isGone.Load()
				_, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "test_tool_with_logging"}) // takes 100 ms
				calls.Add(1)
				if err != nil {
					failed.Add(1)
					t.Logf("after %s: %v", time.Since(begin), err)
					if beganAfter || !service.isKilled[0].Load() {
						t.Errorf("a call failed that was not in progress on the killed pod: %v", err)
					}
				}
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	more := func(count int64) {
		until := calls.Load() + count
		for deadline := time.Now().Add(time.Minute); calls.Load() < until && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		}
		if calls.Load() < until {
			t.Error("the sessions do not call")
		}
	}
	more(5 * sessions)
	owned := service.kill(t, 0)
	isGone.Store(true)
	more(50 * sessions)
	close(end)
	running.Wait()
	t.Logf("%d of %d calls failed; the pod had %.0f of %d sessions", failed.Load(), calls.Load(), owned, sessions)
	if owned == 0 {
		t.Error("the killed pod had no sessions")
	}
}

// kill kills a pod with SIGKILL, and returns how many sessions it had, when its process has ended. The service gives it no more requests.
func (s *service) kill(t *testing.T, ordinal int) (sessions float64) {
	t.Helper()
	sessions = s.pods[ordinal].metric(t, "mcp_runner_sessions", "")
	s.isKilled[ordinal].Store(true)
	if err := s.pods[ordinal].command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pods[ordinal].command.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	return sessions
}
