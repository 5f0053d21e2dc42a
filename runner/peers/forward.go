package peers

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
)

// Headers between pods. A client that sets them gets no more than with the request initialize.
const (
	// forwardedHeader has the ordinal of the pod that has forwarded a request. A request that has it is not forwarded again.
	forwardedHeader = "Mcp-Runner-Forwarded"
	// takeHeader says that the pod is to start the session again.
	takeHeader = "Mcp-Runner-Take"
	// absentHeader says that the pod has not the session, or no place for it, and has not carried the request out.
	absentHeader = "Mcp-Runner-Absent"
)

// outcome is what became of a forwarded request.
type outcome int

const (
	// answered means that the client has its answer, also if it is an error.
	answered outcome = iota
	// isAbsent means that the pod has not the session, and has not carried the request out.
	isAbsent
	// unreachable means that no connection to the pod was possible, so that the request was not sent.
	unreachable
)

var errAbsent = errors.New("the pod has not the session")

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConnsPerHost: 100,
		DisableCompression:  true, // the bytes pass through
	}
}

// forward sends a request to another pod and its answer to the client. A request that may have been carried out is never sent again: it is answered with an
// error.
func (r *Router) forward(w http.ResponseWriter, request *http.Request, body *body, peer Peer, take bool) outcome {
	result := answered
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: peer.Address})
			p.Out.Host = p.In.Host
			p.Out.Header.Set(forwardedHeader, strconv.Itoa(int(r.config.Ordinal)))
			p.Out.Header.Del(takeHeader)
			if take {
				p.Out.Header.Set(takeHeader, "true")
			}
			body.rewind(p.Out)
		},
		Transport:     r.transport,
		ErrorLog:      log.New(discard{}, "", 0),
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode == http.StatusMisdirectedRequest && response.Header.Get(absentHeader) != "" {
				return errAbsent
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, request *http.Request, err error) {
			result = outcomeOf(err)
			if result == answered && request.Context().Err() == nil {
				legacy.Refuse(w, http.StatusBadGateway, nil, rpc.Unavailable, "the pod that has the session was lost while it answered", nil)
			}
		},
	}
	// The pod ends its stream when it stops. The stream of the client then ends as well, without its last chunk, so that the client connects again.
	proxy.ServeHTTP(w, request)
	if result == unreachable {
		r.members.isDown(peer.Ordinal)
	}
	r.count(result)
	return result
}

func outcomeOf(err error) outcome {
	var dial *net.OpError
	switch {
	case errors.Is(err, errAbsent):
		return isAbsent
	case errors.Is(err, context.Canceled):
		return answered // the client is gone
	case errors.As(err, &dial) && dial.Op == "dial":
		return unreachable
	default:
		return answered
	}
}

func (r *Router) count(result outcome) {
	if r.config.Forwarded != nil {
		r.config.Forwarded(result.String())
	}
}

// String returns the value of the label result of the metric of forwarded requests.
func (o outcome) String() string {
	switch o {
	case answered:
		return "answered"
	case isAbsent:
		return "absent"
	case unreachable:
		return "unreachable"
	default:
		return fmt.Sprintf("outcome(%d)", int(o))
	}
}

// discard drops the log of httputil: the errors are answered to the client.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
