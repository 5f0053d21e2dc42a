package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"mcpserver-operator/reconcile/registry"
)

// No response is read further than its limit, whatever the registry says about its size.
func TestEndlessResponses(t *testing.T) {
	for _, test := range []struct{ path, says string }{
		{"/v2/", "status 503"},
		{manifests + "v1", "more than 4194304 bytes"},
		{blobs, "more than 4194304 bytes"},
		{"/token", "authentication"},
	} {
		t.Run(test.path, func(t *testing.T) {
			server := newServer(t)
			server.push(t, reference, runs(t, "/server"))
			var written int
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case test.path == "/token" && r.URL.Path == "/v2/":
					challenge(w, "https://"+host+"/token")
					return true
				case !strings.HasPrefix(r.URL.Path, test.path) || test.path == "/v2/" && r.URL.Path != test.path:
					return false
				case test.path == "/v2/":
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				for written < 128<<20 {
					n, err := w.Write(bytes.Repeat([]byte(" "), 1<<16))
					if written += n; err != nil {
						return true
					}
				}
				return true
			}
			kind := registry.ErrInvalid
			if test.path == "/v2/" {
				kind = registry.ErrUnavailable
			}
			expectError(t, server.reader(), reference, kind, test.says)
			server.Close() // waits for the handler
			if written > 64<<20 {
				t.Errorf("the registry could write %d bytes", written)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	for _, slow := range []string{"/v2/", manifests, blobs, "body of " + manifests, "/token"} {
		t.Run(slow, func(t *testing.T) {
			server := newServer(t)
			server.push(t, reference, runs(t, "/server"))
			arrived := make(chan struct{}, 10)
			server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if slow == "/token" && r.URL.Path == "/v2/" {
					challenge(w, "https://"+host+"/token")
					return true
				}
				path, body := strings.CutPrefix(slow, "body of ")
				if isPing := r.URL.Path == "/v2/"; isPing != (path == "/v2/") || !strings.HasPrefix(r.URL.Path, path) {
					return false
				}
				if body {
					w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
					_, _ = io.WriteString(w, `{"schemaVersion":2`)
					_ = http.NewResponseController(w).Flush()
				}
				arrived <- struct{}{}
				<-r.Context().Done()
				return true
			}
			reader := server.reader()
			reader.Timeout = 100 * time.Millisecond
			_, err := reader.Read(t.Context(), reference)
			expectKind(t, err, registry.ErrUnavailable, "did not answer in time")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error %v is not that of the context", err)
			}
			<-arrived

			reader.Timeout = 0
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				cancel()
			}()
			_, err = reader.Read(ctx, reference)
			expectKind(t, err, registry.ErrUnavailable, "cancelled")
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the error %v is not that of the context", err)
			}
		})
	}
}

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// lastRead is a body that ends after it calls the function.
type lastRead func()

func (f lastRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// If a look-up is cancelled, the server can end its response before the client closes the connection. The part is not the body.
func TestBodyEndsWithTheContext(t *testing.T) {
	server := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	reader := &registry.Reader{Transport: roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := server.Client().Transport.RoundTrip(request)
		if err == nil && strings.HasPrefix(request.URL.Path, manifests) {
			_ = response.Body.Close()
			response.StatusCode = http.StatusOK
			response.Body = io.NopCloser(lastRead(cancel))
		}
		return response, err
	})}
	_, err := reader.Read(ctx, reference)
	expectKind(t, err, registry.ErrUnavailable, "cancelled")
}

// plainServer is a server without HTTPS. It counts the requests.
func plainServer(t *testing.T) (server *httptest.Server, requests *int) {
	t.Helper()
	requests = new(int)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		*requests++
		w.WriteHeader(http.StatusOK)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server, requests
}

// The client of registries uses HTTP for names such as localhost, if HTTPS fails.
func TestRegistryWithoutHTTPS(t *testing.T) {
	plain, requests := plainServer(t)
	address, err := url.Parse(plain.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address.Host)
	}}
	for _, host := range []string{address.Host, "localhost:" + address.Port(), "10.0.0.1", host} {
		expectError(t, &registry.Reader{Transport: transport}, host+"/team/app:v1", registry.ErrInvalid, fmt.Sprintf("%q does not use HTTPS", host))
	}
	plain.Close()
	expectError(t, &registry.Reader{Transport: &http.Transport{}}, address.Host+"/team/app:v1", registry.ErrUnavailable, "connection refused")
	if *requests != 0 {
		t.Errorf("the registry got %d requests", *requests)
	}
}

func TestLoopbackRegistryWithHTTPS(t *testing.T) {
	server := newServer(t)
	loopback := strings.TrimPrefix(server.URL, "https://") + "/team/app:v1"
	digest := server.push(t, loopback, runs(t, "/server"))
	expectImage(t, server.reader(), registry.Image{Reference: loopback, Digest: digest, Entrypoint: []string{"/server"}})
}

func TestRedirects(t *testing.T) {
	plain, requests := plainServer(t)
	for _, path := range []string{"/v2/", manifests, blobs} {
		for name, test := range map[string]struct{ to, says string }{
			"HTTP":                  {plain.URL, "does not use HTTPS"},
			"HTTP of the same host": {"http://" + host, "does not use HTTPS"},
			"another scheme":        {"ftp://" + host, "does not use HTTPS"},
			"for ever":              {"https://" + host, ""},
		} {
			t.Run(path+" to "+name, func(t *testing.T) {
				server := newServer(t)
				server.push(t, reference, runs(t, "/server"))
				server.forget()
				server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					isPing := r.URL.Path == "/v2/"
					if isPing != (path == "/v2/") || !strings.HasPrefix(r.URL.Path, path) {
						return false
					}
					http.Redirect(w, r, test.to+r.URL.Path, http.StatusTemporaryRedirect)
					return true
				}
				expectError(t, server.reader(), reference, registry.ErrInvalid, test.says)
				if got := server.seen(""); got > 13 {
					t.Errorf("%d requests", got)
				}
			})
		}
	}
	if *requests != 0 {
		t.Errorf("the server without HTTPS got %d requests", *requests)
	}
}

// A registry can make a client get tokens again and again.
func TestRequestsAreLimited(t *testing.T) {
	server := newServer(t)
	server.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token/token/token/token/token":
			_, _ = io.WriteString(w, `{"token":"abc"}`)
		case strings.HasPrefix(r.URL.Path, "/token"):
			http.Redirect(w, r, "https://auth.example.com"+r.URL.Path+"/token", http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, manifests) && r.Host == host:
			http.Redirect(w, r, "https://other.example.com"+r.URL.Path, http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, manifests):
			if r.Header.Get("Authorization") == "" {
				challenge(w, "https://auth.example.com/token")
				return true
			}
			http.Redirect(w, r, "https://x"+r.Host+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			challenge(w, "https://auth.example.com/token")
		}
		return true
	}
	expectError(t, server.reader(), reference, registry.ErrInvalid, "")
	if got := server.seen(""); got != 30 {
		t.Errorf("%d requests, want 30", got)
	}
}

// The own transport does not connect to the operator's pod and to the metadata services of clouds.
func TestAddresses(t *testing.T) {
	server := newServer(t)
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("https_proxy", "")
	for _, host := range []string{strings.TrimPrefix(server.URL, "https://"), "0.0.0.0:1", "169.254.169.254", "[fe80::1]", "[::ffff:127.0.0.1]:1", "[::]:1"} {
		expectError(t, &registry.Reader{}, host+"/team/app:v1", registry.ErrInvalid, "does not connect")
	}
	if server.seen("") != 0 {
		t.Errorf("there were requests: %q", server.requests)
	}
}

func TestUnknownCertificate(t *testing.T) {
	server := newServer(t)
	expectError(t, &registry.Reader{Transport: &http.Transport{}}, strings.TrimPrefix(server.URL, "https://")+"/team/app:v1", registry.ErrUnavailable,
		"certificate is not valid")
}

func TestConnectionEnds(t *testing.T) {
	server := newServer(t)
	server.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, manifests) {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	expectError(t, server.reader(), reference, registry.ErrUnavailable, "no connection")
}
