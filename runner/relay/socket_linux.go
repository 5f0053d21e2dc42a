package relay

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout makes a connection fail if the other side does not acknowledge what was sent. Without it, a request to a lost node would wait for about
// 15 minutes; keep-alive probes are not sent while data is not acknowledged.
func setUserTimeout(timeout time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds())) // else the default holds
		})
	}
}

// isClosed reports whether the other side has closed a connection. The transport finds that out in another goroutine, which may be late.
func isClosed(conn net.Conn) bool {
	tcp, isTCP := conn.(syscall.Conn)
	if !isTCP {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) { // not Read: the transport is reading
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil, n == 0:
			closed = true
		}
	})
	return closed || err != nil
}
