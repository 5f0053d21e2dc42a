package peers

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/relay"
	"mcpserver-operator/runner/rpc"
)

// The headers between runners. Pods of two versions of the runner exist side by side during a rollout, and for as long as nobody asks for an update.
// A version may add a header, a word, or a member of an answer; the others ignore it. It must not change or require what an earlier version
// does not send, and it must read the session ids of the earlier version. TestWhatTheRunnersTellEachOther has what all versions send.
const (
	// ForwardedHeader marks a request that another pod has forwarded. It must not be forwarded again. Its value is the ordinal of that pod, and "take"
	// after it if the pod that gets it has to recreate the session. Later versions may add words.
	ForwardedHeader = "Mcp-Runner-Forwarded"
	// AbsentHeader marks a response with status 421: the pod does not have the session and has not carried out the request.
	AbsentHeader = "Mcp-Runner-Absent"
	// TargetHeader names the pod for which a forwarded request is. Another pod may have got the address of a pod that is gone.
	TargetHeader = "Mcp-Runner-Target"
	// NamespaceHeader names the namespace of the pod that has sent the request or the answer, if that pod knows it. A StatefulSet of another namespace may
	// have the same name.
	NamespaceHeader = "Mcp-Runner-Namespace"
	// PodHeader names the pod that answers a forwarded request. An answer without it is not that of a runner.
	PodHeader = "Mcp-Runner-Pod"

	// PodsHeader has the ordinals of the pods that a pod knows, in its answer to a pod that starts. Earlier versions do not send it.
	PodsHeader = "Mcp-Runner-Pods"

	takeWord = "take"
)

const (
	// dialTimeout is how long a connection to a peer may take.
	dialTimeout = time.Second
	// silentTimeout is how long a peer's network may be silent before a connection fails.
	silentTimeout = 15 * time.Second
	// defaultIdle is the default of Config.Idle. It is short because the pod at the other end may be replaced.
	defaultIdle = 5 * time.Second
)

// newTransport returns a transport to peers that keeps connections without a request for a time.
func newTransport(idle time.Duration, connections int) *http.Transport {
	return relay.NewTransport(relay.Options{Dial: dialTimeout, Silent: silentTimeout, Idle: idle, Conns: connections})
}

// outcome is what became of a request that was forwarded.
type outcome int

const (
	// done means that the client has an answer, or is gone.
	done outcome = iota
	// absent means that the peer does not have the session. It has not carried out the request.
	absent
	// unreachable means that the request was not sent, or may be sent again.
	unreachable
)

// attempt is one forwarding of a request.
type attempt struct {
	peer   Peer
	target string
	hop    string
	reason string
	body   []byte

	failure error
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt { return ctx.Value(attemptKey{}).(*attempt) }

var (
	errAbsent  = errors.New("the pod does not have the session")
	errForeign = errors.New("the address of the pod is that of another program")
)

// nameOf returns the name of a pod of this StatefulSet.
func (r *Router) nameOf(ordinal uint16) string {
	return r.config.Set + "-" + strconv.Itoa(int(ordinal))
}

// isOfNamespace reports whether a request or an answer may be from a pod of this namespace.
func (r *Router) isOfNamespace(header http.Header) bool {
	namespace := header.Get(NamespaceHeader)
	return namespace == "" || r.config.Namespace == "" || namespace == r.config.Namespace
}

// newProxy returns a proxy that sends a request to the peer of its attempt. It passes each piece of a stream on at once, and reads the next piece when the
// client has accepted it: a slow client slows the peer down.
func (r *Router) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  r.forwarding,
		BufferPool: relay.Buffers,
		ErrorLog:   slog.NewLogLogger(r.config.Log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			a := attemptOf(p.In.Context())
			p.Out.Body = relay.Body(a.body)
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", a.peer.Address, p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			relay.KeepForwarded(p)
			p.Out.Header.Set(ForwardedHeader, a.hop)
			p.Out.Header.Set(TargetHeader, a.target)
			p.Out.Header.Set(NamespaceHeader, r.config.Namespace)
		},
		ModifyResponse: func(response *http.Response) error {
			a := attemptOf(response.Request.Context())
			if response.Header.Get(PodHeader) != a.target || !r.isOfNamespace(response.Header) {
				return errForeign
			}
			response.Header.Del(PodHeader)
			response.Header.Del(NamespaceHeader)
			if response.StatusCode == http.StatusMisdirectedRequest && response.Header.Get(AbsentHeader) != "" {
				return errAbsent
			}
			r.metrics.Forwarded.WithLabelValues(a.reason).Inc()
			metrics.RequestOf(response.Request.Context()).SetForwarded()
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, request *http.Request, err error) {
			attemptOf(request.Context()).failure = err
		},
	}
}

// hop returns the value of ForwardedHeader.
func (r *Router) hop(take bool) string {
	ordinal := strconv.Itoa(int(r.config.Ordinal))
	if take {
		return ordinal + " " + takeWord
	}
	return ordinal
}

// asksToTake reports whether another pod has forwarded a request and asks this pod to recreate the session.
func asksToTake(request *http.Request) bool {
	words := strings.Fields(request.Header.Get(ForwardedHeader))
	return len(words) > 1 && slices.Contains(words[1:], takeWord)
}

// forward sends a request to a peer. It answers the client unless the request can be sent to another pod: only if it was certainly not carried out, or has no
// effect of its own.
func (r *Router) forward(c *call, ordinal uint16, take bool) outcome {
	if !c.read(r.config.Limits) {
		return done
	}
	a := &attempt{peer: r.members.find(ordinal), target: r.nameOf(ordinal), hop: r.hop(take), reason: c.reason(take), body: c.body}
	ctx, sent := relay.Track(context.WithValue(c.r.Context(), attemptKey{}, a))
	out := c.r.WithContext(ctx)
	out.Body, out.ContentLength = http.NoBody, int64(len(c.body)) // see newProxy
	if len(c.body) > 0 {
		out.TransferEncoding = nil
	}
	r.proxy.ServeHTTP(relay.LimitWrites(c.w, r.config.Limits.Write), out)
	switch {
	case errors.Is(a.failure, errAbsent):
		return absent
	case a.failure == nil:
		r.suspects.remove(ordinal)
		return done
	case c.r.Context().Err() != nil: // the client is gone
		return done
	}
	r.metrics.Failed.Inc()
	if timeout, isNet := errors.AsType[net.Error](a.failure); isNet && timeout.Timeout() {
		r.suspects.add(ordinal)
	}
	// Only a runner can carry the request out. A session that was opened and that no client knows ends when it is idle.
	isHarmless := c.id == "" || c.r.Method == http.MethodGet || c.r.Method == http.MethodDelete
	if sent.Nothing() || errors.Is(a.failure, errForeign) || isHarmless {
		r.config.Log.Debug("a pod cannot be reached", "ordinal", ordinal, "error", a.failure)
		return unreachable
	}
	r.config.Log.Warn("the connection to a pod was lost during a request", "ordinal", ordinal, "error", a.failure)
	c.refuse(http.StatusBadGateway, rpc.Unavailable, "the connection to the pod of the session was lost: the request may have been carried out or not")
	return done
}
