// Command nodeinit is process 1 of a node. It starts in new process, mount and network namespaces, prepares the mounts, prints
// a line, and waits. When it ends, the kernel ends every process in the namespaces and removes their mounts. This also works if
// the test that started it was killed.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// parentFD is the read end of a pipe that closes when the parent process ends.
const parentFD = 3

func main() {
	if err := mounts(); err != nil {
		fmt.Fprintln(os.Stderr, "nodeinit:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(parentFD, "parent"))
		os.Exit(0)
	}()
	reap()
}

// mounts gives the node a separate /proc and a separate /run, where containerd and the CNI plugins keep sockets and
// namespaces. Later mounts are not visible outside. Inside, mounts propagate, as the kubelet requires.
func mounts() error {
	for _, mount := range []struct {
		source, target, kind string
		flags                uintptr
		what                 string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, "making the mounts private"},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mounting /proc"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mounting /run"},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, "sharing the mounts among the containers"},
	} {
		if err := unix.Mount(mount.source, mount.target, mount.kind, mount.flags, ""); err != nil {
			return fmt.Errorf("%s: %w", mount.what, err)
		}
	}
	return nil
}

// reap collects ended processes whose parents have ended. Process 1 inherits them.
func reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}
