package process

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// markerVariable is an environment variable that identifies what a server has started, also if it has left the process group.
const markerVariable = "MCP_RUNNER_PROCESS"

func newMarker() string { return rand.Text() }

// killGroup sends a signal to a process group. It is not an error that the group is gone.
func killGroup(group int, signal syscall.Signal) { _ = syscall.Kill(-group, signal) }

// searches are the markers of processes that have ended. One search of all processes of the machine serves all markers that wait for it, because many
// servers end at the same time when the pod stops.
var searches = struct {
	sync.Mutex
	waiting   map[string]chan struct{}
	isRunning bool
}{waiting: map[string]chan struct{}{}}

// killMarked kills all processes that have the marker in their environment.
func killMarked(marker string) {
	done := make(chan struct{})
	searches.Lock()
	searches.waiting[marker] = done
	if !searches.isRunning {
		searches.isRunning = true
		go search()
	}
	searches.Unlock()
	<-done
}

func search() {
	for {
		searches.Lock()
		markers := searches.waiting
		searches.waiting = map[string]chan struct{}{}
		searches.isRunning = len(markers) > 0
		searches.Unlock()
		if len(markers) == 0 {
			return
		}
		killAll(markers)
		for _, done := range markers {
			close(done)
		}
	}
}

// killAll kills all processes that have one of the markers in their environment.
func killAll(markers map[string]chan struct{}) {
	for range 10 { // a process may fork while it is looked for
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, file := range files {
			environment, err := os.ReadFile(file) //nolint:gosec // a path in /proc
			if err != nil || markers[markerOf(environment)] == nil {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				found = true
			}
		}
		if !found {
			return
		}
	}
}

// markerOf returns the marker in the environment of a process; empty if it has none.
func markerOf(environment []byte) string {
	for variable := range bytes.SplitSeq(environment, []byte{0}) {
		if marker, found := bytes.CutPrefix(variable, []byte(markerVariable+"=")); found {
			return string(marker)
		}
	}
	return ""
}
