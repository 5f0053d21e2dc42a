package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/metrics"
)

// openStream opens a session of HTTP+SSE. The first event of the server names the URL to which the client posts its messages, with the session id of the
// server. The client gets a URL with the id of the runner instead. The session lives as long as the stream.
func (c *call) openStream() {
	sessions := c.front.Sessions
	open, release, err := sessions.Reserve()
	if err != nil {
		c.refuseForNow(err)
		return
	}
	defer release()
	id := ""
	defer func() {
		if id != "" {
			sessions.End(id)
			sessions.draining.Notify()
		}
	}()
	c.pass(func(response *http.Response) error {
		kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		if response.StatusCode != http.StatusOK || kind != eventStream {
			return nil
		}
		reader := bufio.NewReader(response.Body)
		before, endpoint, err := readEndpoint(reader)
		if err != nil {
			return err
		}
		one := newSession(sessions, "")
		if one.endpoint, err = c.resolve(endpoint); err != nil {
			return err
		}
		id = sessions.NewRecord().ID()
		open(id, one)
		c.session = one
		metrics.RequestOf(c.r.Context()).SetSession(id)
		// The URL is relative, so that it also holds behind a gateway that adds a prefix to the path.
		before = append(before, "event: endpoint\ndata: messages?"+legacy.SessionParameter+"="+id+"\n\n"...)
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(before), reader), response.Body}
		return nil
	})
}

// resolve returns the URL of the server for an endpoint that it has named. Only the path and the query of the endpoint count: the server does not know how
// it is reached.
func (c *call) resolve(endpoint string) (*url.URL, error) {
	target := c.front.Sessions.config.Target
	base := url.URL{Scheme: target.Scheme, Host: target.Host, Path: c.r.URL.Path}
	resolved, err := base.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("reading the endpoint of the server: %w", err)
	}
	return &url.URL{Scheme: target.Scheme, Host: target.Host, Path: resolved.Path, RawPath: resolved.RawPath, RawQuery: resolved.RawQuery}, nil
}

var errNoEndpoint = errors.New("the server does not begin its stream with the event endpoint")

// readEndpoint reads a stream until the event endpoint. It returns what comes before that event.
func readEndpoint(reader *bufio.Reader) (before []byte, endpoint string, err error) {
	var event []byte
	name, data := "", ""
	for len(before)+len(event) < mostBegin {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil, "", fmt.Errorf("%w: %w", errNoEndpoint, err)
		}
		event = append(event, line...)
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			if name == "endpoint" {
				return before, data, nil
			}
			before, event, name, data = append(before, event...), nil, "", ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			data += string(value)
		}
	}
	return nil, "", errNoEndpoint
}
