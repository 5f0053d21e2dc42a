package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// readyTimeout is how long the server may take to answer.
	readyTimeout = time.Second
	// readyAge and unreadyAge are how long a result is used.
	readyAge   = 2 * time.Second
	unreadyAge = 200 * time.Millisecond
)

// readiness remembers whether the server answers.
type readiness struct {
	mutex       sync.Mutex
	err         error
	until       time.Time
	hasAnswered bool
}

// Ready returns why the server cannot be used; nil if it can. A server that has answered once only has to accept connections: many servers do not answer
// anything else while they carry out a call, and are not out of order.
func (s *Sessions) Ready(ctx context.Context) error {
	r := &s.readiness
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if time.Now().Before(r.until) {
		return r.err
	}
	if r.hasAnswered {
		r.err = accepts(ctx, s.config.Target)
	} else {
		r.err = IsReady(ctx, s.config.Target)
	}
	if ctx.Err() != nil {
		return r.err // of the one who asks, not of the server
	}
	r.hasAnswered = r.hasAnswered || r.err == nil
	if r.until = time.Now().Add(unreadyAge); r.err == nil {
		r.until = time.Now().Add(readyAge)
	}
	return r.err
}

// accepts reports whether the server accepts connections.
func accepts(ctx context.Context, target *url.URL) error {
	address := target.Host
	if target.Port() == "" {
		address = net.JoinHostPort(target.Hostname(), "80")
	}
	connection, err := (&net.Dialer{Timeout: readyTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connecting to the server: %w", err)
	}
	_ = connection.Close()
	return nil
}

// IsReady reports whether the server answers. Any HTTP response will do.
func IsReady(ctx context.Context, target *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: "/"}).String(), http.NoBody)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	_ = response.Body.Close()
	return nil
}
