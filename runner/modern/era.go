package modern

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// mostWait is how long a request waits until it is known which versions the server supports.
const mostWait = 10 * time.Second

// Era finds out which versions without sessions a server supports.
type Era struct {
	known    chan struct{}
	once     sync.Once
	versions []string
}

// NewEra returns an Era that does not know yet.
func NewEra() *Era { return &Era{known: make(chan struct{})} }

// Set tells the versions.
func (e *Era) Set(versions []string) {
	e.once.Do(func() {
		e.versions = versions
		close(e.known)
	})
}

// IsKnown reports whether the versions are known: the server has answered.
func (e *Era) IsKnown() bool {
	select {
	case <-e.known:
		return true
	default:
		return false
	}
}

// Find asks probe until it succeeds or ctx ends, less and less often.
func (e *Era) Find(ctx context.Context, log *slog.Logger, probe func(context.Context) ([]string, error)) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		versions, err := probe(ctx)
		if err == nil {
			log.Info("the server answers", "versions without sessions", versions)
			e.Set(versions)
			return
		}
		if ctx.Err() != nil {
			return
		}
		log.Error("the server does not answer", "error", err, "next try in", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

var errUnknown = errors.New("the server has not answered yet")

// Versions returns the versions, and waits a little if they are not known yet.
func (e *Era) Versions(ctx context.Context) ([]string, error) {
	if e.IsKnown() {
		return e.versions, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mostWait)
	defer cancel()
	select {
	case <-e.known:
		return e.versions, nil
	case <-ctx.Done():
		return nil, errUnknown
	}
}
