package faults

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// throughNetwork runs operators with a proxy between them and the API server that can disturb the network.
var throughNetwork = &setup{name: "through a network", number: 2, args: leaderElection, connect: func(t *testing.T, config *rest.Config) {
	config.Host = "https://" + network(t, config.Host).Listen
}}

// network returns the proxy, which runs until the test process ends.
var network = func() func(*testing.T, string) *toxiproxy.Proxy {
	var once sync.Once
	var proxy *toxiproxy.Proxy
	return func(t *testing.T, server string) *toxiproxy.Proxy {
		once.Do(func() {
			proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
				"kube-apiserver", "127.0.0.1:0", strings.TrimPrefix(server, "https://"))
			must(t, proxy.Start())
		})
		return proxy
	}
}()

// poison disturbs the network in both directions until the end of the test, or until the returned function is called.
func poison(t *testing.T, kind, attributes string) (end func()) {
	t.Helper()
	toxics := network(t, theCluster.Config.Host).Toxics
	for _, direction := range []string{"upstream", "downstream"} {
		_, err := toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": %q, "name": %q, "stream": %[2]q, "attributes": %s}`,
			kind, direction, attributes)))
		must(t, err)
	}
	end = sync.OnceFunc(func() { toxics.ResetToxics(context.Background()) })
	t.Cleanup(end)
	return end
}

// answerTime returns the time for one request on a new connection through the network.
func answerTime(t *testing.T) (time.Duration, error) {
	t.Helper()
	config := rest.AnonymousClientConfig(theCluster.Config)
	throughNetwork.connect(t, config)
	config.Timeout = 10 * time.Second
	client, err := rest.HTTPClientFor(config)
	must(t, err)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/readyz", nil)
	must(t, err)
	begun := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return time.Since(begun), response.Body.Close()
}

// latency adds a second in each direction. A request on a new connection takes two round trips: the first is the TLS handshake.
func latency(t *testing.T, _ *storm) {
	end := poison(t, "latency", `{"latency": 1000}`)
	took, err := answerTime(t)
	must(t, err)
	if took < 4*time.Second {
		t.Fatalf("an answer took %s, so the latency is too low", took)
	}
	must(t, hold(t.Context(), 8*time.Second))
	end()
}

// connectionsReset repeatedly resets every connection that carries data, and every new connection.
func connectionsReset(t *testing.T, s *storm) {
	before := s.operators.failedRequests(t)
	for range 5 {
		end := poison(t, "reset_peer", `{}`)
		if took, err := answerTime(t); err == nil {
			t.Fatalf("an answer came after %s: the connection was not reset", took)
		}
		must(t, hold(t.Context(), 500*time.Millisecond))
		end()
		must(t, hold(t.Context(), time.Second))
	}
	if failed := s.operators.failedRequests(t) - before; failed == 0 {
		t.Error("no request of the operators failed, so the test did not test a recovery")
	} else {
		t.Logf("%.0f requests of the operators failed", failed)
	}
}

// noPacketArrives drops all data without an error, for longer than the duration of the lease.
func noPacketArrives(t *testing.T, _ *storm) {
	end := poison(t, "timeout", `{"timeout": 0}`)
	if took, err := answerTime(t); err == nil {
		t.Fatalf("an answer came after %s", took)
	}
	must(t, hold(t.Context(), 10*time.Second))
	end()
}

// throughAnswers runs operators with a proxy between them and the API server that can answer requests itself.
var throughAnswers = &setup{name: "through a proxy", number: 2, args: leaderElection, connect: func(t *testing.T, config *rest.Config) {
	proxy := answers(t)
	config.Host, config.TLSClientConfig = proxy.server.URL, rest.TLSClientConfig{CAData: pem.EncodeToMemory(
		&pem.Block{Type: "CERTIFICATE", Bytes: proxy.server.Certificate().Raw})}
}}

// answers returns the proxy, which runs until the test process ends.
var answers = func() func(*testing.T) *answerer {
	var once sync.Once
	var proxy *answerer
	return func(t *testing.T) *answerer {
		once.Do(func() { proxy = newAnswerer(t) })
		return proxy
	}
}()

// answerer is a proxy that passes requests to the API server, or answers them with an error that the API server could return.
type answerer struct {
	server *httptest.Server
	proxy  httputil.ReverseProxy

	wrong atomic.Bool       // answer some requests with an error
	given [600]atomic.Int32 // errors by status code
	lost  atomic.Int32      // errors for writes of MCPServers and their children that the API server had carried out

	mutex   sync.Mutex
	watches context.Context // cancels all open watches
	cut     context.CancelFunc
	refused string // the resource that cannot be watched

	wasCut, wasRefused atomic.Int32 // watches
}

func newAnswerer(t *testing.T) *answerer {
	to, err := url.Parse(theCluster.Config.Host)
	must(t, err)
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(theCluster.Config))
	must(t, err)
	a := &answerer{proxy: httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     transport,
		FlushInterval: -1, // forward each event of a watch immediately
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	a.cutWatches("")
	a.server = httptest.NewUnstartedServer(a)
	a.server.EnableHTTP2 = true
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.StartTLS()
	return a
}

// cutWatches cuts all open watches, and refuses watches of the given resource until its next call.
func (a *answerer) cutWatches(refused string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.refused = refused
	if a.cut != nil {
		a.cut()
	}
	a.watches, a.cut = context.WithCancel(context.Background())
}

func (a *answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("watch") {
		a.mutex.Lock()
		watches, refused := a.watches, a.refused
		a.mutex.Unlock()
		if path.Base(r.URL.Path) == refused {
			a.wasRefused.Add(1)
			answer(w, apierrors.NewServiceUnavailable("injected"))
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(watches, func() { a.wasCut.Add(1); cancel() })()
		a.proxy.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	const oneIn = 4
	if !a.wrong.Load() || rand.IntN(oneIn) > 0 {
		a.proxy.ServeHTTP(w, r)
		return
	}
	isWrite := r.Method != http.MethodGet
	if isWrite && rand.IntN(2) == 0 {
		carriedOut := httptest.NewRecorder()
		a.proxy.ServeHTTP(carriedOut, r)
		if r.Method == http.MethodPatch && carriedOut.Code < 300 && path.Base(r.URL.Path) != "events" {
			a.lost.Add(1) // not for leases (PUT) and reviews (POST)
		}
	}
	err := drawError(isWrite)
	a.given[err.Status().Code].Add(1)
	answer(w, err)
}

// answer sends an error.
func answer(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	w.Header().Set("Content-Type", "application/json")
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(status.Details.RetryAfterSeconds))
	}
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // the client may have disconnected
}

// drawError draws an error of an API server. Only writes can get a conflict.
func drawError(isWrite bool) *apierrors.StatusError {
	all := []*apierrors.StatusError{
		apierrors.NewTooManyRequests("injected", 1),
		apierrors.NewInternalError(errors.New("injected")),
		apierrors.NewServiceUnavailable("injected"),
	}
	if isWrite {
		all = append(all, apierrors.NewConflict(schema.GroupResource{Resource: "injected"}, "injected", errors.New("injected")))
	}
	return all[rand.IntN(len(all))]
}

// wrongAnswers answers a quarter of the requests with an error. The API server has carried out half of the writes among them.
func wrongAnswers(t *testing.T, _ *storm) {
	proxy := answers(t)
	codes := []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	for _, code := range codes {
		proxy.given[code].Store(0)
	}
	proxy.lost.Store(0)
	proxy.wrong.Store(true)
	t.Cleanup(func() { proxy.wrong.Store(false) })
	must(t, hold(t.Context(), 10*time.Second))
	proxy.wrong.Store(false)
	for _, code := range codes {
		t.Logf("%d answers of %d", proxy.given[code].Load(), code)
		if proxy.given[code].Load() == 0 {
			t.Errorf("no answer was %d", code)
		}
	}
	t.Logf("the API server carried out %d of these writes of MCPServers and their children", proxy.lost.Load())
	if proxy.lost.Load() == 0 {
		t.Error("the API server carried out no write that was answered with an error")
	}
}

// watchesCut repeatedly cuts all watches, and refuses watches of one kind for some time. The cache of this kind is then stale, and the other
// caches are current.
func watchesCut(t *testing.T, _ *storm) {
	proxy := answers(t)
	proxy.wasCut.Store(0)
	proxy.wasRefused.Store(0)
	t.Cleanup(func() { proxy.cutWatches("") })
	for _, refused := range []string{"", "statefulsets", "", "mcpservers"} {
		proxy.cutWatches(refused)
		must(t, hold(t.Context(), 3*time.Second))
	}
	proxy.cutWatches("")
	t.Logf("%d watches were cut, %d refused", proxy.wasCut.Load(), proxy.wasRefused.Load())
	if proxy.wasCut.Load() == 0 || proxy.wasRefused.Load() == 0 {
		t.Fatal("no watch was cut or refused, so the test did not test a recovery")
	}
}
