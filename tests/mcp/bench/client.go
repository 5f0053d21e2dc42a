package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// version is the protocol version of all clients.
const version = "2025-11-25"

// client is a client with connections of its own, as a program of its own would have.
type client struct {
	*mcp.ClientSession
	connections *http.Transport
}

// spread sends each request to the next of some replicas.
type spread struct {
	replicas atomic.Pointer[[]*url.URL]
	next     atomic.Uint64
	to       http.RoundTripper
}

// use says to which replicas the requests go from now on.
func (s *spread) use(urls ...string) error {
	var replicas []*url.URL
	for _, one := range urls {
		replica, err := url.Parse(one)
		if err != nil {
			return fmt.Errorf("reading a URL: %w", err)
		}
		replicas = append(replicas, replica)
	}
	s.replicas.Store(&replicas)
	return nil
}

// RoundTrip implements http.RoundTripper.
func (s *spread) RoundTrip(request *http.Request) (*http.Response, error) {
	replicas := *s.replicas.Load()
	replica := replicas[s.next.Add(1)%uint64(len(replicas))]
	request = request.Clone(request.Context())
	request.URL.Host, request.Host = replica.Host, replica.Host
	return s.to.RoundTrip(request)
}

// connect opens a session with the client of go-sdk, which also opens the stream of messages that belong to no request. If route is not nil, it says where
// the requests go.
func connect(ctx context.Context, endpoint string, route *spread) (*client, error) {
	c := &client{connections: &http.Transport{MaxIdleConnsPerHost: 4}}
	var sender http.RoundTripper = c.connections
	if route != nil {
		route.to, sender = sender, route
	}
	var err error
	c.ClientSession, err = mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil).Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: sender}},
		&mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	return c, nil
}

// connectTo opens a session of the client with a number.
func (t target) connectTo(ctx context.Context, r *running, number int) (*client, error) {
	if t.isPinned || len(r.urls) == 1 {
		return connect(ctx, r.urls[number%len(r.urls)], nil)
	}
	route := &spread{}
	route.next.Store(uint64(number))
	if err := route.use(r.urls...); err != nil {
		return nil, err
	}
	return connect(ctx, r.urls[0], route)
}

func (c *client) close() {
	_ = c.Close() // the target ends soon
	c.connections.CloseIdleConnections()
}

// callTimeout is how long a call may take.
const callTimeout = 30 * time.Second

// call calls a tool, and reports how long the call took and whether the answer was right.
func (c *client) call(ctx context.Context) (took time.Duration, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begin := time.Now()
	result, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "test_simple_text"})
	took = time.Since(begin)
	if err != nil || len(result.Content) != 1 {
		return took, false
	}
	text, isText := result.Content[0].(*mcp.TextContent)
	return took, isText && text.Text != ""
}

// openIdle opens a session without a stream, and closes the connection.
func openIdle(ctx context.Context, endpoint string) error {
	const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"` + version + `","capabilities":{},` +
		`"clientInfo":{"name":"bench","version":"1"}}}`
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(initialize))
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	request.Close = true
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("opening a session: status %d, %w", response.StatusCode, err)
	}
	return nil
}
