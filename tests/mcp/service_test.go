package mcp

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// service is a Service in front of runners that are the pods of a StatefulSet. It gives each request to the next pod, and closes the connection after the
// response, as if each request came on a connection of its own. It is three processes on one machine; tests/node has real pods.
type service struct {
	pods []*started
	url  string
	next atomic.Int64
	// isKilled says which pods get no requests.
	isKilled [3]atomic.Bool
}

// startService starts runners in front of servers, with the flags after which the command or the URL of each server comes.
func startService(t *testing.T, count int, flagsOf func(ordinal int) []string) *service {
	t.Helper()
	var peers []string
	var listening [][2]string
	for range count {
		pod := [2]string{freeAddress(t), freeAddress(t)}
		listening = append(listening, pod)
		peers = append(peers, pod[0]+"/"+pod[1])
	}
	s := &service{}
	for ordinal, pod := range listening {
		s.pods = append(s.pods, startRunnerOf(t, append([]string{
			"--listen=" + pod[0], "--management=" + pod[1], "--pod=web-" + strconv.Itoa(ordinal), "--peers=" + strings.Join(peers, ","),
		}, flagsOf(ordinal)...)...))
	}
	front := httptest.NewUnstartedServer(s)
	front.Config.SetKeepAlivesEnabled(false)
	front.Start()
	t.Cleanup(func() {
		front.CloseClientConnections() // streams have no end
		front.Close()
	})
	s.url = front.URL + "/mcp"
	return s
}

// ofStdio returns the flags of a stdio server, for startService.
func ofStdio(command ...string) func(int) []string {
	return func(int) []string { return append([]string{"--"}, command...) }
}

// freeAddress returns an address at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, _ := url.Parse(s.pods[s.turn()].url) // it was used before
	target.Path = ""
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.Transport = unpooled
	proxy.ErrorLog = log.New(io.Discard, "", 0) // clients that are gone
	defer func() { _ = recover() }()            // httputil panics if a stream breaks off
	proxy.ServeHTTP(w, r)
}

// turn returns the ordinal of the pod that gets the next request.
func (s *service) turn() int {
	for {
		if ordinal := int(s.next.Add(1)) % len(s.pods); !s.isKilled[ordinal].Load() {
			return ordinal
		}
	}
}

var unpooled = &http.Transport{DisableKeepAlives: true}

var sample = regexp.MustCompile(`(?m)^(\S+) ([0-9.e+]+)$`)

// metric returns the sum of a metric over its labels, if these contain the given ones.
func (s *started) metric(t *testing.T, name, labels string) (sum float64) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.management+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range sample.FindAllStringSubmatch(string(content), -1) {
		base, rest, _ := strings.Cut(match[1], "{")
		if value, err := strconv.ParseFloat(match[2], 64); err == nil && base == name && strings.Contains(rest, labels) {
			sum += value
		}
	}
	return sum
}

// hasSpread fails unless each pod has served requests and forwarded some of a session that another pod has.
func (s *service) hasSpread(t *testing.T) {
	t.Helper()
	forwarded := 0.0
	for ordinal, pod := range s.pods {
		if requests := pod.metric(t, "mcp_runner_requests_total", ""); requests == 0 {
			t.Errorf("pod %d has served no request", ordinal)
		}
		forwarded += pod.metric(t, "mcp_runner_forwarded_total", `reason="session"`)
	}
	if forwarded == 0 {
		t.Error("no request of a session was forwarded")
	}
	t.Logf("%.0f requests were forwarded", forwarded)
}
