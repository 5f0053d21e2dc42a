//go:build linux

// Package namespace creates Linux network, mount and process namespaces, and runs commands in them. Processes in the
// namespaces end with the namespaces. The namespaces end with the process that created them.
package namespace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is a set of namespaces. Its process 1 keeps the namespaces alive. The methods of a nil Namespace act on the
// machine itself.
type Namespace struct {
	init  *exec.Cmd
	alive *os.File // the write end of the pipe that process 1 watches
	pidfd int
}

// New creates namespaces with the executable nodeinit as process 1. It requires root.
func New(nodeinit string) (*Namespace, error) {
	watched, alive, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making namespaces: %w", err)
	}
	defer watched.Close()
	n := &Namespace{init: exec.Command(nodeinit), alive: alive}
	n.init.Stderr = os.Stderr
	n.init.ExtraFiles = []*os.File{watched}
	n.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setpgid:    true, // Ctrl-C in a terminal reaches only the parent process
		PidFD:      &n.pidfd,
	}
	out, err := n.init.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making namespaces: %w", err), alive.Close())
	}
	if err := n.init.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("making namespaces: %w", err), alive.Close())
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("making namespaces: nodeinit did not become ready: %w", err), n.Close())
	}
	return n, nil
}

// Close ends every process in the namespaces. It returns when the processes have ended and their mounts are gone.
func (n *Namespace) Close() error {
	if n == nil {
		return nil
	}
	err := n.init.Process.Kill()
	_ = n.init.Wait() // it was killed; the kernel ends process 1 last
	return errors.Join(err, n.alive.Close(), unix.Close(n.pidfd))
}

// PID returns the id of process 1 as seen from the machine.
func (n *Namespace) PID() int { return n.init.Process.Pid }

// Start starts a command in the namespaces.
func (n *Namespace) Start(command *exec.Cmd) error {
	return n.enter(unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWPID, command.Start)
}

// StartInNetwork starts a command in the network namespace. The command keeps the machine's mounts and processes.
func (n *Namespace) StartInNetwork(command *exec.Cmd) error {
	return n.enter(unix.CLONE_NEWNET, command.Start)
}

// InNetwork calls a function in the network namespace. The function must not start a goroutine that needs the namespace.
func (n *Namespace) InNetwork(do func() error) error {
	return n.enter(unix.CLONE_NEWNET, do)
}

// DialContext connects to a numeric address in the network namespace, like net.Dialer.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var connection net.Conn
	err := n.enter(unix.CLONE_NEWNET, func() error {
		var err error
		// A socket stays in the namespace in which it was created, independent of the thread that uses it.
		connection, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return connection, err
}

// Listen listens at a numeric address in the network namespace, like net.ListenConfig.
func (n *Namespace) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.enter(unix.CLONE_NEWNET, func() error {
		var err error
		listener, err = new(net.ListenConfig).Listen(ctx, network, address) // stays in the namespace, as does a connection
		return err
	})
	return listener, err
}

// enter calls a function on a new thread that has entered some of the namespaces. The thread ends afterwards, because it
// might not be able to return to its original namespaces.
func (n *Namespace) enter(which int, do func() error) error {
	if n == nil {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		done <- func() error {
			if which&unix.CLONE_NEWNS != 0 {
				// The kernel requires that a thread does not share its working directory before it enters a different mount namespace.
				if err := unix.Unshare(unix.CLONE_FS); err != nil {
					return fmt.Errorf("entering a namespace: %w", err)
				}
			}
			if err := unix.Setns(n.pidfd, which); err != nil {
				return fmt.Errorf("entering a namespace: %w", err)
			}
			return do()
		}()
	}()
	return <-done
}
