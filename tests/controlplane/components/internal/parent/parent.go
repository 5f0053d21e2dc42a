// Package parent ends a component when the process that started it ends.
package parent

import (
	"io"
	"os"
	"strconv"
)

// FDVariable is the name of an environment variable. Its value is an inherited file descriptor: the read end of a pipe. Only
// the starting process has the write end. Package controlplane sets the variable.
const FDVariable = "CONTROLPLANE_PARENT_FD"

// ExitWith makes this process exit when the process that started it ends, for whatever reason. The kernel closes the pipe even
// after kill -9, when no signal handler and no deferred Stop can run. Without FDVariable, ExitWith does nothing.
func ExitWith() {
	fd, err := strconv.Atoi(os.Getenv(FDVariable))
	if err != nil {
		return
	}
	pipe := os.NewFile(uintptr(fd), "parent")
	go func() {
		_, _ = io.Copy(io.Discard, pipe)
		os.Exit(1)
	}()
}
