// Package waittest waits in tests.
package waittest

import (
	"testing"
	"time"
)

const (
	timeout  = 20 * time.Second
	interval = 5 * time.Millisecond
)

// Eventually polls until a condition holds. The test fails if it does not hold within 20 seconds; what names it in the message.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(timeout)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", timeout, what)
		}
	}
}
