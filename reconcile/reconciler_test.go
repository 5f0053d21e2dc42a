package reconcile

import (
	"errors"
	"strings"
	"testing"
)

// TestAnErrorInTheLogIsBounded verifies that a long answer of a webhook does not fill the log, and that the error stays what it is.
func TestAnErrorInTheLogIsBounded(t *testing.T) {
	cause := errors.New(strings.Repeat("no — ", 20_000))
	_, err := finish(0, cause)
	if err == nil || len(err.Error()) > mostLogged || !errors.Is(err, cause) {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
