//go:build !linux

// Package namespace creates Linux namespaces. On other systems, New fails, and the methods of a nil Namespace act on the
// machine itself.
package namespace

import (
	"context"
	"errors"
	"net"
	"os/exec"
)

// Namespace is nil on systems other than Linux.
type Namespace struct{}

// New fails.
func New(string) (*Namespace, error) { return nil, errors.New("namespaces require Linux") }

// Close does nothing.
func (n *Namespace) Close() error { return nil }

// PID returns 0.
func (n *Namespace) PID() int { return 0 }

// Start starts a command.
func (n *Namespace) Start(command *exec.Cmd) error { return command.Start() }

// StartInNetwork starts a command.
func (n *Namespace) StartInNetwork(command *exec.Cmd) error { return command.Start() }

// InNetwork calls a function.
func (n *Namespace) InNetwork(do func() error) error { return do() }

// DialContext connects to an address.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// Listen listens at an address.
func (n *Namespace) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, address)
}
