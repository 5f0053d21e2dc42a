package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"mcpserver-operator/tests/controlplane/namespace"
)

// entrance forwards connections from a loopback port of the machine into a namespace. Clients outside use it to reach
// kube-apiserver. Processes inside cannot connect to the outside.
type entrance struct {
	listener net.Listener
}

// openEntrance starts to forward connections to an address in a namespace.
func openEntrance(in *namespace.Namespace, target string) (*entrance, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening an entrance to the namespace: %w", err)
	}
	go func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			go forward(in, outer, target)
		}
	}()
	return &entrance{listener: listener}, nil
}

func (e *entrance) address() string { return e.listener.Addr().String() }

// close stops accepting connections. Existing connections end when the server stops.
func (e *entrance) close() error {
	if e == nil {
		return nil
	}
	return e.listener.Close()
}

// Listen listens at a free port of the first real node. A server of this process with this listener is reachable from pods, and not from the machine.
func (cp *ControlPlane) Listen(ctx context.Context) (net.Listener, error) {
	if len(cp.nodes) == 0 {
		return nil, errors.New("there is no real node to listen on")
	}
	listener, err := cp.namespace.Listen(ctx, "tcp", net.JoinHostPort(nodeAddress(1), "0"))
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", nodeName(1), err)
	}
	return listener, nil
}

// forward copies data in both directions until both ends are done. Each end may close its half first.
func forward(in *namespace.Namespace, outer net.Conn, target string) {
	defer outer.Close()
	inner, err := in.DialContext(context.Background(), "tcp", target)
	if err != nil {
		return // the client sees that the connection is closed
	}
	defer inner.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{outer, inner}, {inner, outer}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].(*net.TCPConn).CloseWrite()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
