package registry

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxBody is the maximum size of a response in bytes. It is the size that registries accept for a manifest.
	maxBody = 4 << 20
	// maxErrorBody is how much of a response with an error status is read, in bytes. The rest is ignored.
	maxErrorBody = 32 << 10
	// maxHeaders is the maximum size of the headers of a response in bytes.
	maxHeaders = 64 << 10
	// maxRequests is the maximum number of requests of a look-up. Usually, it needs five, plus a redirect to where the registry keeps its blobs.
	maxRequests = 30
	// maxRedirects is the maximum number of redirects of one request.
	maxRedirects = 5
)

var errPlainHTTP = fail(ErrInvalid, "a request or a redirect does not use HTTPS")

// guard limits the requests of one look-up. All requests pass it: redirects and those to token servers, too.
type guard struct {
	http.RoundTripper
	requests atomic.Int32
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := g.check(request); err != nil {
		if request.Body != nil {
			_ = request.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	response, err := g.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxErrorBody), response.Body}
	} else {
		response.Body = &limitedBody{ReadCloser: response.Body, left: maxBody}
	}
	return response, nil
}

func (g *guard) check(request *http.Request) error {
	if request.URL.Scheme != "https" {
		return errPlainHTTP
	}
	if g.requests.Add(1) > maxRequests {
		return fail(ErrInvalid, "the registry needs more than %d requests for one image", maxRequests)
	}
	return nil
}

// limitedBody fails if a body is longer than allowed. An io.LimitReader would end as if the body were complete.
type limitedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fail(ErrInvalid, "the registry gives an answer of more than %d bytes", maxBody)
	}
	return n, err
}

// checkRedirect is the CheckRedirect of the requests for manifests and blobs. It refuses HTTP here, because the client of registries replaces HTTP
// by HTTPS for the host of the registry, so that the guard does not see it.
func checkRedirect(request *http.Request, via []*http.Request) error {
	if request.URL.Scheme != "https" {
		return errPlainHTTP
	}
	if len(via) > maxRedirects {
		return fail(ErrInvalid, "the registry redirects more than %d times", maxRedirects)
	}
	return nil
}

// newTransport returns the transport of one look-up. It keeps connections only for the requests of this look-up.
func newTransport(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: checkAddress}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxHeaders,
	}
}

// checkAddress refuses connections to the pod of the operator and to link-local addresses. It gets the resolved address.
func checkAddress(_, address string, _ syscall.RawConn) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fail(ErrInvalid, "the registry has no valid address")
	}
	ip := parsed.Addr()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return fail(ErrInvalid, "the registry is at a loopback, link-local or multicast address, to which the operator does not connect")
	}
	return nil
}
