// Package relay has what the proxies of the runner share: connections on which it is known whether a request was sent, and responses that a client must
// receive in time. A request that was sent may have been carried out, so it must not be sent again.
package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how to connect.
type Options struct {
	// Dial is how long a connection may take.
	Dial time.Duration
	// Silent is how long the network may be silent before a connection fails.
	Silent time.Duration
	// Idle is how long a connection is kept without a request.
	Idle time.Duration
	// Conns is the number of idle connections that are kept for each host.
	Conns int
}

// bufferBytes is the size of the buffers of a connection and of a copy of a response. A message usually fits. Each open stream occupies such buffers, also
// while nothing is sent. The defaults of the library are 4 KiB and 32 KiB.
const bufferBytes = 2 << 10

// NewTransport returns a transport that knows no proxy and does not compress. A request has no time limit.
func NewTransport(o Options) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         o.Dial,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: o.Silent / 3, Interval: o.Silent / 3, Count: 2},
		Control:         setUserTimeout(o.Silent),
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connection, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err //nolint:wrapcheck // the transport says what it wanted
			}
			return &conn{Conn: connection}, nil
		},
		MaxIdleConnsPerHost:    o.Conns,
		IdleConnTimeout:        o.Idle,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         bufferBytes,
		WriteBufferSize:        bufferBytes,
	}
}

// conn counts the bytes that were given to the network.
type conn struct {
	net.Conn
	written atomic.Int64
}

// Write fails without sending anything if the other side has closed the connection.
func (c *conn) Write(p []byte) (int, error) {
	if isClosed(c.Conn) {
		return 0, fmt.Errorf("writing a request: %w", net.ErrClosed)
	}
	c.written.Add(int64(len(p)))
	return c.Conn.Write(p) //nolint:wrapcheck // a connection
}

// Sent knows whether a request was sent.
type Sent struct {
	conn   *conn
	before int64 // bytes that were written to the connection before the request
	// IsReused is true if the request got a connection that was used before.
	IsReused bool
}

// Track returns a context for one request. If the request fails, Sent knows whether a part of it was sent.
func Track(ctx context.Context) (context.Context, *Sent) {
	s := &Sent{}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if counting, is := got.Conn.(*conn); is {
			s.conn, s.before, s.IsReused = counting, counting.written.Load(), got.Reused
		}
	}}), s
}

// Nothing reports whether no byte of the request was sent. It must be called only after the request has failed.
func (s *Sent) Nothing() bool { return s.conn == nil || s.conn.written.Load() == s.before }

// Buffers are the buffers with which a proxy copies responses.
var Buffers httputil.BufferPool = &buffers{sync.Pool{New: func() any { return new([bufferBytes]byte) }}}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte { return b.pool.Get().(*[bufferBytes]byte)[:] }

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferBytes]byte)(buffer)) }

// Body returns the body of a request that a proxy sends. A proxy must set it in Rewrite: httputil.ReverseProxy wraps the body that it gets, and the transport then
// does not know that the body is in memory, and sends the header alone first. There is no GetBody, so the transport does not send the request a second time,
// whatever headers it has.
func Body(content []byte) io.ReadCloser {
	if len(content) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(content))
}

// KeepForwarded passes on what a gateway has said of the client. httputil.ReverseProxy removes it.
func KeepForwarded(p *httputil.ProxyRequest) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, isSet := p.In.Header[name]; isSet {
			p.Out.Header[name] = values
		}
	}
}

// LimitWrites limits how long a client may take to receive a piece of a response.
func LimitWrites(w http.ResponseWriter, timeout time.Duration) http.ResponseWriter {
	return &limitedWriter{ResponseWriter: w, controller: http.NewResponseController(w), timeout: timeout}
}

type limitedWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	_ = l.controller.SetWriteDeadline(time.Now().Add(l.timeout)) // not supported by recorders in tests
	return l.ResponseWriter.Write(p)                             //nolint:wrapcheck // a writer
}

// Unwrap lets http.ResponseController flush the response.
func (l *limitedWriter) Unwrap() http.ResponseWriter { return l.ResponseWriter }
