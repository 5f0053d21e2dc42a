//go:build linux

// Package namespace makes Linux namespaces, of the network, of mounts and of processes, and runs commands in them. What was
// started in them does not outlive them, and they do not outlive the process that made them.
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

// Namespace is a set of namespaces with a process 1 that holds them. The methods of a nil Namespace act outside of any, on
// the machine itself.
type Namespace struct {
	init  *exec.Cmd
	alive *os.File // the write end of the pipe that process 1 watches
	pidfd int
}

// New makes namespaces with the executable nodeinit as their process 1. It needs root.
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
		Setpgid:    true, // Ctrl-C in a terminal reaches only us
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
		return nil, errors.Join(fmt.Errorf("making namespaces: nodeinit did not get ready: %w", err), n.Close())
	}
	return n, nil
}

// Close ends every process in the namespaces, and returns when they are gone and their mounts with them.
func (n *Namespace) Close() error {
	if n == nil {
		return nil
	}
	err := n.init.Process.Kill()
	_ = n.init.Wait() // it was killed; the kernel ends process 1 last
	return errors.Join(err, n.alive.Close(), unix.Close(n.pidfd))
}

// PID is the process 1 of the namespaces, as the machine counts it.
func (n *Namespace) PID() int { return n.init.Process.Pid }

// Start starts a command in the namespaces.
func (n *Namespace) Start(command *exec.Cmd) error {
	return n.enter(unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWPID, command.Start)
}

// StartInNetwork starts a command that sees the mounts and the processes of the machine, and the network of the namespace.
func (n *Namespace) StartInNetwork(command *exec.Cmd) error {
	return n.enter(unix.CLONE_NEWNET, command.Start)
}

// InNetwork calls a function in the network of the namespace. It must not start a goroutine that counts on it.
func (n *Namespace) InNetwork(do func() error) error {
	return n.enter(unix.CLONE_NEWNET, do)
}

// DialContext connects to an address of digits in the network of the namespace: a net.Dialer for it.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var connection net.Conn
	err := n.enter(unix.CLONE_NEWNET, func() error {
		var err error
		// A socket stays in the namespace in which it was made, whichever thread uses it.
		connection, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return connection, err
}

// enter calls a function on a thread of its own that has entered some of the namespaces. The thread ends afterwards: a
// thread cannot be relied on to find its way back.
func (n *Namespace) enter(which int, do func() error) error {
	if n == nil {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		done <- func() error {
			if which&unix.CLONE_NEWNS != 0 {
				// The kernel wants a thread that enters another tree of mounts to have a working directory of its own.
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
