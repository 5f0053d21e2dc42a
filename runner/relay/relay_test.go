package relay

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var options = Options{Dial: time.Second, Silent: time.Minute, Idle: time.Minute, Conns: 1}

// send sends a request and reports whether nothing of it was sent.
func send(t *testing.T, transport *http.Transport, url string) (status int, nothing bool, err error) {
	t.Helper()
	ctx, sent := Track(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, struct{ *strings.Reader }{strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, sent.Nothing(), err
	}
	_ = response.Body.Close()
	return response.StatusCode, sent.Nothing(), nil
}

func TestItIsKnownWhetherARequestWasSent(t *testing.T) {
	transport := NewTransport(options)
	defer transport.CloseIdleConnections()
	var breaks atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if breaks.Load() {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	if status, nothing, err := send(t, transport, server.URL); status != http.StatusOK || nothing || err != nil {
		t.Errorf("got %d, %t, %v", status, nothing, err)
	}
	breaks.Store(true)
	if _, nothing, err := send(t, transport, server.URL); err == nil || nothing {
		t.Errorf("the server has got the request: got %t, %v", nothing, err)
	}
	breaks.Store(false)
	if status, _, err := send(t, transport, server.URL); status != http.StatusOK || err != nil { // an idle connection again
		t.Fatalf("got %d, %v", status, err)
	}
	server.CloseClientConnections()
	if _, nothing, err := send(t, transport, server.URL); err != nil && !nothing {
		t.Errorf("the connection was closed before: got %t, %v", nothing, err)
	}
	server.Close()
	if _, nothing, err := send(t, transport, server.URL); err == nil || !nothing {
		t.Errorf("nobody listens: got %t, %v", nothing, err)
	}
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	ended := make(chan error)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		limited := LimitWrites(w, 50*time.Millisecond)
		for piece := make([]byte, 64<<10); ; {
			if _, err := limited.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	}))
	defer server.Close()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_, _ = connection.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	if err, isNet := errors.AsType[net.Error](<-ended); !isNet || !err.Timeout() {
		t.Errorf("got %v", err)
	}
}

// countedConn counts the pieces in which requests are sent.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// Two pieces are two system calls here and two more at the server.
func TestAProxySendsTheHeaderAndTheBodyTogether(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	var writes atomic.Int64
	transport := NewTransport(options)
	defer transport.CloseIdleConnections()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		connection, err := dial(ctx, network, address)
		return countedConn{connection, &writes}, err
	}
	proxy := &httputil.ReverseProxy{Transport: transport, BufferPool: Buffers, Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.Body = Body([]byte("body"))
		p.Out.URL.Scheme, p.Out.URL.Host = "http", server.Listener.Addr().String()
	}}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("body"))
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, request)
	if got := writes.Load(); answer.Code != http.StatusOK || got != 1 {
		t.Errorf("status %d, %d pieces", answer.Code, got)
	}
}
