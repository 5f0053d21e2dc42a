package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/rpc"
)

// errDropped is the error of a change of a response that the client must not get.
var errDropped = errors.New("the response is not for the client")

func dropIf(drop bool) error {
	if drop {
		return errDropped
	}
	return nil
}

// pass sends the request to the server and its answer to the client. change may change the answer; if it fails with errDropped, the client gets no answer.
func (c *call) pass(change func(*http.Response) error) {
	if err := c.front.Sessions.patiently(c.r.Context(), func() error { return c.send(change) }); err != nil && !errors.Is(err, errDropped) {
		c.refuseServer(err)
	}
}

// send is pass without an answer to the client if the server does not answer.
func (c *call) send(change func(*http.Response) error) error {
	failure, canRepeat := c.sendOnce(change)
	if failure != nil && canRepeat && c.r.Context().Err() == nil {
		failure, _ = c.sendOnce(change)
	}
	return failure
}

// noLog is the log of a proxy: the client gets the errors.
var noLog = log.New(io.Discard, "", 0)

// sendOnce reports whether the request can be sent again, because the server had closed an idle connection.
func (c *call) sendOnce(change func(*http.Response) error) (failure error, canRepeat bool) {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	defer context.AfterFunc(c.life(), func() { cancel(context.Cause(c.life())) })()
	ctx, sent := relay.Track(ctx)
	proxy := &httputil.ReverseProxy{
		Transport:  c.front.Sessions.transport,
		BufferPool: relay.Buffers,
		ErrorLog:   noLog,
		Rewrite:    c.rewrite,
		ModifyResponse: func(response *http.Response) error {
			if change != nil {
				if err := change(response); err != nil {
					return err
				}
			}
			c.watch(response)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err },
	}
	out := c.r.WithContext(ctx)
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, int64(len(c.body)), nil // see rewrite
	proxy.ServeHTTP(c.w, out)
	switch {
	case failure == nil, errors.Is(failure, errDropped):
		return failure, false
	case c.life().Err() != nil:
		return fmt.Errorf("asking the server: %w", context.Cause(c.life())), false
	case sent.Nothing():
		return notSentError{fmt.Errorf("asking the server: %w", failure)}, sent.IsReused
	default:
		return fmt.Errorf("asking the server: %w", failure), false
	}
}

// rewrite makes the request for the server from that of the client.
func (c *call) rewrite(p *httputil.ProxyRequest) {
	p.Out.Body = relay.Body(c.body)
	target := c.front.Sessions.config.Target
	p.Out.URL.Scheme, p.Out.URL.Host = target.Scheme, target.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	if c.session != nil && c.session.endpoint != nil {
		endpoint := *c.session.endpoint
		p.Out.URL = &endpoint
	}
	relay.KeepForwarded(p)
	p.Out.Host = target.Host
	if p.Out.Header.Get("X-Forwarded-Host") == "" {
		p.Out.Header.Set("X-Forwarded-Host", p.In.Host)
	}
	p.Out.Header.Del("Origin")          // it was checked
	p.Out.Header.Del("Accept-Encoding") // the runner reads the answer
	for name := range p.Out.Header {
		if strings.HasPrefix(name, internalHeader) {
			p.Out.Header.Del(name)
		}
	}
}

// hold is how long the header of a stream waits for the first piece, so that the client gets both at once: most requests have only one answer.
const hold = 10 * time.Millisecond

// holdEnd is how long a response that has arrived waits for the end of its stream.
const holdEnd = time.Millisecond

// mostWatched is the length of a JSON answer that is looked at for the metrics.
const mostWatched = 64 << 10

// watch looks at the answer to a request for the metrics, and looks after it if it is a stream.
func (c *call) watch(response *http.Response) {
	request := metrics.RequestOf(c.r.Context())
	switch kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case kind == eventStream:
		response.ContentLength = -1
		response.Header.Del("Content-Length")
		stream := newEvents(c.life(), response.Body, c.front.Limits.KeepAlive, func(content []byte) {
			if answer := asResponse(content); answer != nil && c.message.Kind == rpc.Request && c.r.Method == http.MethodPost {
				request.SetAnswer(answer)
			}
		})
		response.Body = stream
		if c.r.Method == http.MethodPost {
			stream.await(hold)
			if length, hasEnded := stream.awaitEnd(holdEnd); hasEnded {
				response.ContentLength = int64(length)
				response.Header.Set("Content-Length", strconv.Itoa(length))
			}
		}
	case kind == "application/json" && response.ContentLength > 0 && response.ContentLength <= mostWatched && response.StatusCode == http.StatusOK:
		body, err := io.ReadAll(response.Body)
		if answer := asResponse(body); answer != nil {
			request.SetAnswer(answer)
		}
		restore(response, body, err)
	}
}

// restore puts what was read of the body of a response back before the rest. If err is not nil, it comes after what was read.
func restore(response *http.Response, begin []byte, err error) {
	rest := io.Reader(response.Body)
	if err != nil {
		rest = failingReader{err}
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), rest), response.Body}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// lostTexts are how common servers say, with status 400 instead of 404, that they do not know a session.
var lostTexts = [][]byte{[]byte("no valid session id"), []byte("session not found"), []byte("invalid session"), []byte("unknown session")}

// mostRefusal is how much of a refusal is read.
const mostRefusal = 4 << 10

// isLost reports whether the server does not know the session of a request. It has not carried out the request then.
func isLost(response *http.Response) bool {
	if response.StatusCode != http.StatusBadRequest {
		return response.StatusCode == http.StatusNotFound
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, mostRefusal))
	restore(response, body, err)
	body = bytes.ToLower(body)
	for _, text := range lostTexts {
		if bytes.Contains(body, text) {
			return true
		}
	}
	return false
}

// mostBegin is how much of the answer to initialize is read to find the negotiated version.
const mostBegin = 256 << 10

// negotiated returns the protocol version in the answer to initialize, which may be JSON or an event on a stream. It reports whether the server has
// opened the session. The answer stays readable.
func negotiated(response *http.Response) (version string, isOpen bool) {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	var begin []byte
	var err error
	if kind == eventStream {
		f := framing{isEmptyLine: true}
		part := make([]byte, 4<<10)
		for !isOpen && err == nil && len(begin) < mostBegin {
			var n int
			n, err = response.Body.Read(part)
			begin = append(begin, part[:n]...)
			f.add(part[:n], func(content []byte) {
				if answer := asResponse(content); answer != nil {
					version, isOpen = versionIn(answer)
				}
			})
		}
	} else {
		begin, err = io.ReadAll(io.LimitReader(response.Body, mostBegin))
		version, isOpen = versionIn(begin)
	}
	restore(response, begin, err)
	return version, isOpen
}

func versionIn(answer []byte) (version string, isOpen bool) {
	message, err := rpc.Parse(answer)
	if err != nil || message.Result == nil {
		return "", false
	}
	return rpc.GetString(message.Result, "protocolVersion")
}
