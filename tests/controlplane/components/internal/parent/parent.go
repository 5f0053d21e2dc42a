// Package parent ties a component's life to the process that started it.
package parent

import (
	"io"
	"os"
	"strconv"
)

// FDVariable names the environment variable that holds the number of an inherited file descriptor: the read end of a
// pipe whose write end only the starter holds. It is set by package controlplane.
const FDVariable = "CONTROLPLANE_PARENT_FD"

// ExitWith makes this process exit when the process that started it is gone, however that ended: a pipe is closed by
// the kernel even on kill -9, which neither a signal handler nor a deferred Stop survives. Without FDVariable it does
// nothing.
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
