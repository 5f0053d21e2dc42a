package mcp

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// childrenOf returns the ids of the processes that a process has started.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(content)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

func TestAfterSIGTERMTheCallInProgressEndsAndNoProcessIsLeft(t *testing.T) {
	runner := startRunner(t, "--drain-timeout=20s")
	for range 3 {
		connect(t, &mcp.StreamableClientTransport{Endpoint: runner.url}, polling)
	}
	one := connect(t, &mcp.StreamableClientTransport{Endpoint: runner.url}, polling)
	children := childrenOf(t, runner.command.Process.Pid)
	if len(children) < 4 {
		t.Fatalf("the runner has %d processes", len(children))
	}
	called := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		_, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: "test_tool_with_logging"}) // takes a moment
		called <- err
	}()
	<-begun
	time.Sleep(50 * time.Millisecond) // the call is on its way
	if err := runner.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-called; err != nil {
		t.Errorf("the call in progress: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- runner.command.Wait() }()
	select {
	case err := <-ended:
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			t.Errorf("the runner: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the runner does not end")
	}
	for _, child := range children {
		if syscall.Kill(child, 0) == nil {
			t.Errorf("process %d is left", child)
		}
	}
}
