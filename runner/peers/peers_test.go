package peers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/session"
)

func TestARequestGoesToThePodThatHasTheSession(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	for i := range 3 {
		got := s.pods[uint16(i)].send(t.Context(), http.MethodPost, id, "x")
		if want := fmt.Sprintf("pod 2 call %d of x", i+1); got.text != want {
			t.Errorf("through pod %d: got %+v, want %q", i, got, want)
		}
	}
}

func TestAnIDThatIsNoneIsRefusedHere(t *testing.T) {
	s := newSet(t, 2, true)
	if got := s.pods[0].send(t.Context(), http.MethodPost, "guess", "x"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestASessionThatLostItsPodIsTakenOnceAndByTheSamePod(t *testing.T) {
	s := newSet(t, 4, true)
	for range 20 {
		id := s.pods[3].open()
		if id == "" {
			t.Fatal("no session")
		}
		s.pods[3].mutex.Lock()
		delete(s.pods[3].sessions, id) // let go, as in draining
		s.pods[3].stops = true
		s.pods[3].mutex.Unlock()
		var clients sync.WaitGroup
		answers := make([]answerTo, 12)
		for i := range answers {
			clients.Go(func() { answers[i] = s.pods[uint16(i%3)].send(t.Context(), http.MethodPost, id, "x") })
		}
		clients.Wait()
		taker := answers[0].text
		if taker == "" {
			t.Fatalf("got %+v", answers[0])
		}
		for _, got := range answers {
			if got.status != http.StatusOK || got.text[:5] != taker[:5] {
				t.Errorf("got %+v, want it by %s", got, taker[:5])
			}
		}
	}
	taken := 0
	for _, p := range s.all() {
		taken += p.taken
	}
	if taken != 20 {
		t.Errorf("20 sessions were taken %d times", taken)
	}
}

func TestASessionStaysWithItsTakerWhenPodsAreAdded(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	first := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
	for ordinal := range uint16(8) {
		if ordinal >= 2 {
			s.add(ordinal)
		}
	}
	s.refresh()
	for ordinal := range uint16(8) {
		got := s.pods[ordinal].send(t.Context(), http.MethodPost, id, "x")
		if got.status != http.StatusOK || got.text[:5] != first.text[:5] {
			t.Errorf("through pod %d: got %+v, want it by %s", ordinal, got, first.text)
		}
	}
}

func TestASessionEndsWithItsPodIfItIsNotRecreated(t *testing.T) {
	s := newSet(t, 2, false)
	id := s.pods[1].open()
	s.kill(1)
	s.mutex.Lock()
	s.gone = nil
	s.mutex.Unlock()
	s.refresh()
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
}

func TestASessionOfAPodThatDoesNotAnswerIsNotSaidToHaveEnded(t *testing.T) {
	s := newSet(t, 2, false)
	id := s.pods[1].open()
	s.kill(1) // DNS still has it
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusServiceUnavailable {
		t.Errorf("got %+v", got)
	}
}

func TestAnEndedSessionIsNotTaken(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	if got := s.pods[0].send(t.Context(), http.MethodDelete, id, ""); got.status != http.StatusNoContent {
		t.Fatalf("got %+v", got)
	}
	s.kill(2)
	for ordinal := range uint16(2) {
		if got := s.pods[ordinal].send(t.Context(), http.MethodPost, id, "x"); got.status != http.StatusNotFound {
			t.Errorf("through pod %d: got %+v", ordinal, got)
		}
	}
}

func TestAForwardedRequestIsNotForwardedAgain(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.pods[0].clients.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Mcp-Session-Id", id)
	request.Header.Set(ForwardedHeader, "7")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMisdirectedRequest || s.pods[1].calls(id) != 0 {
		t.Errorf("status %d, %d calls", response.StatusCode, s.pods[1].calls(id))
	}
}

func TestACallIsNeverCarriedOutTwice(t *testing.T) {
	breaks := map[string]func(http.ResponseWriter, *http.Request){
		"before the header": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"after the header": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	for name, during := range breaks {
		s := newSet(t, 3, true)
		id := s.pods[2].open()
		s.pods[2].setDuring(during)
		got := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		total := 0
		for _, p := range s.all() {
			total += p.calls(id)
		}
		if total != 1 || (got.err == nil && got.status != http.StatusBadGateway) {
			t.Errorf("%s: %d calls, the client gets %+v", name, total, got)
		}
	}
}

func TestAStreamIsForwardedEventByEvent(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	next := make(chan struct{})
	s.pods[1].setDuring(func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "event %d\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.pods[0].clients.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Mcp-Session-Id", id)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("event ", i) {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
		next <- struct{}{} // the next event is written only after this one has arrived
	}
}

func TestASlowReaderSlowsTheSenderDown(t *testing.T) {
	s := newSet(t, 2, true)
	id := s.pods[1].open()
	var mutex sync.Mutex
	sent, piece := 0, make([]byte, 64<<10)
	stopped := make(chan struct{})
	s.pods[1].setDuring(func(w http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		for {
			if _, err := w.Write(piece); err != nil {
				return
			}
			mutex.Lock()
			sent += len(piece)
			mutex.Unlock()
		}
	})
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.pods[0].clients.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: %s\r\n\r\n", id)
	var before int
	for still := 0; still < 20; { // it has stopped when it did not move for 20 looks
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // there is no event for "nothing happens"
		mutex.Lock()
		if sent == before && sent > 0 {
			still++
		} else {
			still = 0
		}
		before = sent
		mutex.Unlock()
		if before > 64<<20 {
			t.Fatal("the sender does not wait for the reader")
		}
	}
	_ = connection.Close()
	<-stopped // and it ends when the client leaves
}

func TestNewSessionsGoToLowOrdinalsAndToAllPods(t *testing.T) {
	s := newSet(t, 3, true)
	for range 90 {
		if got := s.pods[2].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK || got.id == "" {
			t.Fatalf("got %+v", got)
		}
	}
	var open []int
	for ordinal := range uint16(3) {
		one, _, _ := s.pods[ordinal].Load()
		open = append(open, one)
	}
	if open[0]+open[1]+open[2] != 90 || open[2] < 15 || open[0] < open[1] || open[1] < open[2] {
		t.Errorf("the sessions are %v", open)
	}
}

func TestTheOrderOfPodsForANewSession(t *testing.T) {
	room := func(sessions int) load { return load{Sessions: sessions, Max: 1000, Accepting: true} }
	for name, test := range map[string]struct {
		loads map[uint16]load
		want  []uint16
	}{
		"low ordinals first when all are empty":     {map[uint16]load{2: room(0), 0: room(0), 1: room(0)}, []uint16{0, 1, 2}},
		"the lowest while it has few more":          {map[uint16]load{0: room(2), 1: room(0)}, []uint16{0, 1}},
		"not the lowest when it has more":           {map[uint16]load{0: room(3), 1: room(0)}, []uint16{1, 0}},
		"a quarter more with many sessions":         {map[uint16]load{0: room(125), 1: room(100)}, []uint16{0, 1}},
		"not more than a quarter":                   {map[uint16]load{0: room(126), 1: room(100)}, []uint16{1, 0}},
		"no full pod":                               {map[uint16]load{0: {Sessions: 1, Max: 1, Accepting: true}, 1: room(1)}, []uint16{1}},
		"no pod that drains, and it does not count": {map[uint16]load{0: room(9), 1: {Sessions: 0, Max: 9}}, []uint16{0}},
		"the least loaded first of those above":     {map[uint16]load{0: room(20), 1: room(9), 2: room(9), 3: room(0)}, []uint16{3, 1, 2, 0}},
		"nobody":                                    {nil, nil},
	} {
		if got := order(test.loads); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestAFullPodPassesNewSessionsOnAndAFullServerRefusesThem(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].most, s.pods[1].most = 1, 1
	for range 2 {
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
	}
	got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize)
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.text, "no pod takes another session") {
		t.Errorf("got %+v", got)
	}
}

func TestAPodThatStopsPassesNewSessionsOn(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	for range 3 {
		if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
	}
	if open, _, _ := s.pods[1].Load(); open != 3 {
		t.Errorf("pod 1 has %d sessions", open)
	}
}

func TestARequestWithoutASessionIsServedHere(t *testing.T) {
	s := newSet(t, 2, true)
	s.pods[0].stop()
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
	if open, _, _ := s.pods[0].Load(); open != 1 {
		t.Error("it was forwarded")
	}
}

func TestTheWinnerChangesOnlyForTheSessionsOfALostPod(t *testing.T) {
	all := []uint16{0, 1, 2, 3, 4}
	counts := map[uint16]int{}
	for i := range 5000 {
		id := session.New(9, uint32(i)).ID()
		before := rank(id, all)[0]
		counts[before]++
		if after := rank(id, []uint16{4, 2, 0, 1})[0]; before != 3 && after != before {
			t.Fatalf("pod 3 is gone, and a session of pod %d moves to %d", before, after)
		}
	}
	for ordinal, count := range counts {
		if count < 800 || count > 1200 {
			t.Errorf("pod %d wins %d of 5000", ordinal, count)
		}
	}
}

func TestPeersAreFoundByDNS(t *testing.T) {
	dns, err := NewDNS("web-1-7", "mcp-web-headless", ":8080", "0.0.0.0:9464")
	if err != nil {
		t.Fatal(err)
	}
	const domain = ".mcp-web-headless.ns.svc.cluster.local."
	dns.lookup = func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		if service != "mcp" || proto != "tcp" || name != "mcp-web-headless" {
			t.Errorf("looked for %s %s %s", service, proto, name)
		}
		return "", []*net.SRV{
			{Target: "web-1-0" + domain}, {Target: "web-1-12" + domain}, {Target: "web-1-012" + domain}, {Target: "web-10-1" + domain},
			{Target: "10-0-0-1" + domain}, {Target: "web-1-99999" + domain}, {Target: "."},
		}, nil
	}
	got, err := dns.Peers(t.Context())
	want := []Peer{{0, "web-1-0" + domain + ":8080", "web-1-0" + domain + ":9464"}, {12, "web-1-12" + domain + ":8080", "web-1-12" + domain + ":9464"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, want := dns.Peer(3), (Peer{3, "web-1-3.mcp-web-headless:8080", "web-1-3.mcp-web-headless:9464"}); got != want {
		t.Errorf("got %v", got)
	}
	dns.lookup = func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", nil, errors.New("no DNS")
	}
	if _, err := dns.Peers(t.Context()); err == nil {
		t.Error("an error is no empty list")
	}
	for _, pod := range []string{"", "web", "web-", "-1", "web-01", "web-65536"} {
		if _, err := NewDNS(pod, "s", ":1", ":2"); err == nil {
			t.Errorf("%q is not the name of a pod of a StatefulSet", pod)
		}
	}
}

func TestAListIsSortedAndBounded(t *testing.T) {
	var peers []Peer
	for ordinal := range 5000 {
		peers = append(peers, Peer{Ordinal: uint16(4999 - ordinal)}, Peer{Ordinal: uint16(ordinal)})
	}
	got := normal(peers, 3)
	if len(got) != mostPeers || got[0].Ordinal != 0 || got[3].Ordinal != 4 || got[mostPeers-1].Ordinal != mostPeers {
		t.Errorf("got %d peers, %v", len(got), got[:5])
	}
}

var errNoDNS = &net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}

func TestTheLastListIsUsedWhileDNSFails(t *testing.T) {
	s := newSet(t, 3, true)
	id := s.pods[1].open()
	if got := s.pods[0].send(t.Context(), http.MethodPost, "", initialize); got.status != http.StatusOK { // reads the list
		t.Fatalf("got %+v", got)
	}
	s.mutex.Lock()
	s.fails = errNoDNS
	s.mutex.Unlock()
	for range 2 {
		s.refresh()
		got := s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		if got.status != http.StatusOK || got.text[:5] != "pod 1" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPodThatAnswersNonsenseIsNotAskedAgain(t *testing.T) {
	s := newSet(t, 2, true)
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 10<<20))
	}))
	defer nonsense.Close()
	s.gone = append(s.gone, Peer{Ordinal: 9, Address: "127.0.0.1:1", Management: nonsense.Listener.Addr().String()})
	id := s.pods[1].open()
	s.kill(1)
	if got := s.pods[0].send(t.Context(), http.MethodPost, id, "x"); got.text != "pod 0 call 1 of x" {
		t.Errorf("got %+v", got)
	}
}

func TestNoGoroutineIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSet(t, 3, true)
	id := s.pods[2].open()
	s.kill(2)
	for range 20 {
		s.pods[0].send(t.Context(), http.MethodPost, id, "x")
		s.pods[1].send(t.Context(), http.MethodPost, "", initialize)
	}
	for _, p := range s.all() {
		p.close()
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("there were %d goroutines and are %d", before, runtime.NumGoroutine())
		}
	}
}
