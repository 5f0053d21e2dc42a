package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// children are the processes that this package has started and that exec.Cmd.Wait collects.
var children = struct {
	sync.Mutex
	pids map[int]bool
}{pids: map[int]bool{}}

// collected tells Reap that a child was collected. What it has left behind may have ended before.
var collected = make(chan struct{}, 1)

// start starts a command. It is known as a child before Reap can see that it has ended.
func start(cmd *exec.Cmd) error {
	children.Lock()
	defer children.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	children.pids[cmd.Process.Pid] = true
	return nil
}

// waitForEnd waits until a process has ended, without collecting it. It needs no thread, which exec.Cmd.Wait alone would need for each process. A kernel
// without file descriptors of processes returns at once.
func waitForEnd(pidfd int) {
	if pidfd < 0 {
		return
	}
	_ = unix.SetNonblock(pidfd, true) // a file that is not blocking is polled by the runtime
	file := os.NewFile(uintptr(pidfd), "pidfd")
	defer func() { _ = file.Close() }()
	connection, err := file.SyscallConn()
	if err != nil {
		return
	}
	_ = connection.Read(func(fd uintptr) bool { // an error means that it cannot be polled
		events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
		n, err := unix.Poll(events, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
}

func wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	children.Lock()
	defer children.Unlock()
	delete(children.pids, cmd.Process.Pid)
	select {
	case collected <- struct{}{}:
	default: // Reap looks anyway
	}
	return err
}

// Reap collects processes that servers have started and left behind, until ctx ends. The kernel gives them to the first process of the container.
// If this is not the first process, Reap asks the kernel to give it the processes of its descendants.
func Reap(ctx context.Context) {
	if os.Getpid() != 1 {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // without it, the first process collects them
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
		case <-collected:
		}
		children.Lock()
		reapOrphans()
		children.Unlock()
	}
}

// reapOrphans collects the ended processes that are no children of this package. Requires the lock.
func reapOrphans() {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // a path in /proc
		if err != nil {
			continue
		}
		pid, parent, isZombie := parseStat(string(content))
		if isZombie && parent == os.Getpid() && !children.pids[pid] {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // it may have been collected by exec.Cmd.Wait of another package
		}
	}
}

// parseStat reads the beginning of a file /proc/PID/stat: PID (NAME) STATE PARENT. The name may have spaces and parentheses.
func parseStat(content string) (pid, parent int, isZombie bool) {
	number, rest, _ := strings.Cut(content, " (")
	fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, _ = strconv.Atoi(number)
	parent, _ = strconv.Atoi(fields[1])
	return pid, parent, fields[0] == "Z"
}
