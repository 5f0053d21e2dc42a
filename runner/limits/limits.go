// Package limits has what a client may do at most: sizes, times, and from which web pages it may call.
package limits

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Limits are the limits of requests.
type Limits struct {
	// Body is the number of bytes that the body of a request may have.
	Body int64
	// Read is how long a client may take to send the body.
	Read time.Duration
	// Write is how long a client may take to receive a piece of a response.
	Write time.Duration
	// KeepAlive is the time between comments on a stream without events.
	KeepAlive time.Duration
	// Origins are the origins of web pages, besides those of this machine, that may call; "*" allows all.
	Origins []string
}

// The limits of connections. A client gets ten seconds for the header, which is about three round trips over a bad network.
const (
	ReadHeader  = 10 * time.Second
	Idle        = 2 * time.Minute
	HeaderBytes = 64 << 10
)

// Server returns an HTTP server with the limits of connections. It sets no time limit on responses, because streams are long: the fronts limit
// each write.
func Server(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: handler, ReadHeaderTimeout: ReadHeader, IdleTimeout: Idle, MaxHeaderBytes: HeaderBytes, Protocols: protocols}
}

// ErrBodyTooLarge is the error of ReadBody for a body over the limit.
var ErrBodyTooLarge = errors.New("the body of the request is too large")

// ReadBody reads the body of a request.
func (l Limits) ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > l.Body {
		w.Header().Set("Connection", "close") // else the server would read the rest
		return nil, fmt.Errorf("%w: at most %d bytes are allowed", ErrBodyTooLarge, l.Body)
	}
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Now().Add(l.Read)) // not supported by recorders in tests
	body := make([]byte, 0, max(512, min(r.ContentLength+1, 64<<10)))
	reader := http.MaxBytesReader(w, r.Body, l.Body)
	for {
		n, err := reader.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if _, isTooLarge := errors.AsType[*http.MaxBytesError](err); isTooLarge {
			return nil, fmt.Errorf("%w: at most %d bytes are allowed", ErrBodyTooLarge, l.Body)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the body: %w", err)
		}
		if len(body) == cap(body) {
			body = slices.Grow(body, len(body))
		}
	}
	_ = controller.SetReadDeadline(time.Time{})
	return body, nil
}

// AllowsOrigin reports whether a request may come from the web page that its header Origin names. Requests of other programs have no such header. Without
// this check, any page in a browser could call a server that the browser reaches (DNS rebinding). The header Host is not checked: a browser sends Origin with
// each POST, and a service mesh may reach the runner under any name.
func (l Limits) AllowsOrigin(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		if slices.Contains(l.Origins, "*") || slices.ContainsFunc(l.Origins, func(one string) bool { return strings.EqualFold(one, origin) }) {
			continue
		}
		parsed, err := url.Parse(origin)
		if err != nil || !isLoopback(parsed.Hostname()) {
			return false
		}
	}
	return true
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}

// IsJSON reports whether the header Content-Type of a request says JSON.
func IsJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// Accepts reports whether the header Accept of a request names a media type. A request without the header accepts all.
func Accepts(r *http.Request, want string) bool {
	values := r.Header.Values("Accept")
	if len(values) == 0 {
		return true
	}
	group, _, _ := strings.Cut(want, "/")
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			kind, _, _ := strings.Cut(one, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case want, group + "/*", "*/*":
				return true
			}
		}
	}
	return false
}

// PrefersStream reports whether the header Accept of a request names server-sent events before JSON.
func PrefersStream(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	events, body := strings.Index(accept, "text/event-stream"), strings.Index(accept, "application/json")
	return events >= 0 && events < body
}
