package process

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// markerVariable is an environment variable that identifies what a server has started, also if it has left the process group.
const markerVariable = "MCP_RUNNER_PROCESS"

func newMarker() string { return rand.Text() }

// killGroup sends a signal to a process group. It is not an error that the group is gone.
func killGroup(group int, signal syscall.Signal) { _ = syscall.Kill(-group, signal) }

// killMarked kills all processes that have the marker in their environment.
func killMarked(marker string) {
	variable := []byte(markerVariable + "=" + marker)
	for range 10 { // a process may fork while it is looked for
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, file := range files {
			environment, err := os.ReadFile(file) //nolint:gosec // a path in /proc
			if err != nil || !hasVariable(environment, variable) {
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

func hasVariable(environment, variable []byte) bool {
	for one := range bytes.SplitSeq(environment, []byte{0}) {
		if bytes.Equal(one, variable) {
			return true
		}
	}
	return false
}
