package peers

import (
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
