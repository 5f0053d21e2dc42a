package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/waittest"
)

// pod is a pod whose sessions count their calls.
type pod struct {
	ordinal uint16
	start   uint32
	most    int
	router  *Router
	clients *httptest.Server
	manage  *httptest.Server

	mutex    sync.Mutex
	sessions map[string]int // calls of each session
	ended    map[string]bool
	held     map[string]int
	stops    bool
	taken    int
	onTake   func(ctx context.Context) error                   // while a session is recreated
	onManage func(w http.ResponseWriter, r *http.Request) bool // answers another pod instead of the router
	during   func(w http.ResponseWriter, r *http.Request)      // replaces a call
	before   func()                                            // before a request looks for its session
}

// set is a StatefulSet of pods, and the resolver that finds them.
type set struct {
	t        *testing.T
	recreate bool

	mutex sync.Mutex
	pods  map[uint16]*pod
	gone  []Peer // pods that are gone and that DNS still has
	fails error  // of DNS
	// unlisted are pods that DNS does not list yet.
	unlisted map[uint16]bool
}

var testLimits = limits.Limits{Body: 8 << 20, Read: time.Minute, Write: time.Minute}

func newSet(t *testing.T, pods int, recreate bool) *set {
	t.Helper()
	s := &set{t: t, recreate: recreate, pods: map[uint16]*pod{}, unlisted: map[uint16]bool{}}
	t.Cleanup(func() {
		for _, p := range s.all() {
			p.close()
		}
	})
	for i := range pods {
		s.add(uint16(i))
	}
	return s
}

func (s *set) all() (all []*pod) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, p := range s.pods {
		all = append(all, p)
	}
	return all
}

// add starts the pod with an ordinal, and waits until it knows what the other pods know, if it can find them.
func (s *set) add(ordinal uint16) {
	p := &pod{ordinal: ordinal, start: uint32(len(s.gone) + 1), most: 1000, sessions: map[string]int{}, ended: map[string]bool{}, held: map[string]int{}}
	started := make(chan struct{})
	p.clients = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-started
		p.router.ServeHTTP(w, r)
	}))
	p.manage = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-started
		p.mutex.Lock()
		onManage := p.onManage
		p.mutex.Unlock()
		if onManage == nil || !onManage(w, r) {
			p.router.Management().ServeHTTP(w, r)
		}
	}))
	s.mutex.Lock() // its address is known before it starts, as that of a pod
	s.pods[ordinal] = p
	isDNS := s.fails == nil
	s.mutex.Unlock()
	p.router = New(Config{Set: "web", Ordinal: ordinal, Resolver: s, Local: p, Handler: p, Recreate: s.recreate, StreamPath: "/sse", Limits: testLimits, Log: slog.New(slog.DiscardHandler)})
	close(started)
	if isDNS {
		waittest.Eventually(s.t, "the pod has learned", p.router.HasLearned)
	}
}

// kill ends a pod at once. DNS still has it.
func (s *set) kill(ordinal uint16) {
	s.mutex.Lock()
	p := s.pods[ordinal]
	delete(s.pods, ordinal)
	s.gone = append(s.gone, p.peer())
	s.mutex.Unlock()
	p.close()
}

// remove ends a pod that DNS does not have any more.
func (s *set) remove(p *pod) {
	s.mutex.Lock()
	delete(s.pods, p.ordinal)
	s.mutex.Unlock()
	p.close()
}

func (p *pod) peer() Peer {
	return Peer{Ordinal: p.ordinal, Address: p.clients.Listener.Addr().String(), Management: p.manage.Listener.Addr().String()}
}

// close ends a pod as if its process were killed: the connections break, also those with a request in progress.
func (p *pod) close() {
	_ = p.clients.Config.Close()
	_ = p.manage.Config.Close()
	p.clients.Close()
	p.manage.Close()
	p.router.Close()
}

// Peers returns the pods, and those that are gone unless they were replaced.
func (s *set) Peers(context.Context) ([]Peer, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.fails != nil {
		return nil, s.fails
	}
	var all []Peer
	for _, p := range s.pods {
		if !s.unlisted[p.ordinal] {
			all = append(all, p.peer())
		}
	}
	for _, gone := range s.gone {
		if s.pods[gone.Ordinal] == nil {
			all = append(all, gone)
		}
	}
	return all, nil
}

// Peer returns where a pod is, also one that is not listed yet.
func (s *set) Peer(ordinal uint16) Peer {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if p := s.pods[ordinal]; p != nil {
		return p.peer()
	}
	for _, gone := range s.gone {
		if gone.Ordinal == ordinal {
			return gone
		}
	}
	return Peer{ordinal, "127.0.0.1:1", "127.0.0.1:1"}
}

// refresh lets all pods ask for the present list and loads at the next request, instead of after a second.
func (s *set) refresh() {
	for _, p := range s.all() {
		p.router.refresh()
	}
}

func (r *Router) refresh() {
	r.members.mutex.Lock()
	r.members.tried = time.Time{}
	r.members.mutex.Unlock()
	r.balance.mutex.Lock()
	r.balance.until = time.Time{}
	r.balance.mutex.Unlock()
}

func (p *pod) State(id string) session.State {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if _, isLive := p.sessions[id]; isLive {
		return session.Live
	}
	if p.ended[id] {
		return session.Ended
	}
	return session.Absent
}

func (p *pod) Hold(id string) (release func(), state session.State) {
	if state = p.State(id); state != session.Live {
		return nil, state
	}
	p.set(func(p *pod) { p.held[id]++ })
	return func() { p.set(func(p *pod) { p.held[id]-- }) }, state
}

func (p *pod) Take(ctx context.Context, record session.Record) error {
	p.mutex.Lock()
	onTake := p.onTake
	p.mutex.Unlock()
	if onTake != nil {
		if err := onTake(ctx); err != nil {
			return err
		}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.sessions) >= p.most {
		return session.ErrFull
	}
	if p.stops {
		return errors.New("it stops")
	}
	if _, isLive := p.sessions[record.ID()]; !isLive {
		p.sessions[record.ID()] = 0
		p.taken++
	}
	return nil
}

func (p *pod) End(id string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.sessions, id)
	p.ended[id] = true
}

func (p *pod) Ended() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return slices.Collect(maps.Keys(p.ended))
}

// Drop lets a session go.
func (p *pod) Drop(id string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.sessions, id)
}

func (p *pod) Load() (open, most int, isAccepting bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.sessions), p.most, !p.stops
}

// ServeHTTP opens, calls and ends sessions.
func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	id := r.Header.Get("Mcp-Session-Id")
	if id == "" {
		id = r.URL.Query().Get("sessionId")
	}
	p.mutex.Lock()
	before := p.before
	p.mutex.Unlock()
	if before != nil {
		before()
	}
	p.mutex.Lock()
	during := p.during
	_, isLive := p.sessions[id]
	switch {
	case id == "":
		record := p.record()
		p.sessions[record.ID()] = 0
		w.Header().Set("Mcp-Session-Id", record.ID())
		p.mutex.Unlock()
	case !isLive:
		p.mutex.Unlock()
		http.Error(w, "no such session", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		p.mutex.Unlock()
		p.End(id)
		w.WriteHeader(http.StatusNoContent)
	default:
		p.sessions[id]++
		calls := p.sessions[id]
		p.mutex.Unlock()
		if during != nil {
			during(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, "pod %d call %d of %s", p.ordinal, calls, content)
	}
}

func (p *pod) calls(id string) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.sessions[id]
}

func (p *pod) setDuring(during func(w http.ResponseWriter, r *http.Request)) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.during = during
}

// stop begins to drain: sessions that are not held are let go.
func (p *pod) stop() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.stops = true
	maps.DeleteFunc(p.sessions, func(id string, _ int) bool { return p.held[id] == 0 })
}

// answerTo is the answer to a request of a client.
type answerTo struct {
	status int
	text   string
	id     string
	header http.Header
	err    error
}

// send sends a request to a pod. Each header is a name and a value.
func (p *pod) send(ctx context.Context, method, id, body string, headers ...string) answerTo {
	return p.sendTo(ctx, "/mcp", method, id, body, headers...)
}

func (p *pod) sendTo(ctx context.Context, path, method, id, body string, headers ...string) answerTo {
	request, err := http.NewRequestWithContext(ctx, method, p.clients.URL+path, strings.NewReader(body))
	if err != nil {
		return answerTo{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	if id != "" {
		request.Header.Set("Mcp-Session-Id", id)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return answerTo{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	return answerTo{response.StatusCode, strings.TrimSpace(string(content)), response.Header.Get("Mcp-Session-Id"), response.Header, err}
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`

func (p *pod) record() session.Record {
	record := session.New(p.ordinal, p.start)
	record.Version = rpc.Polling
	return record
}

// open opens a session in a pod, without routing.
func (p *pod) open() string {
	record := p.record()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.sessions[record.ID()] = 0
	return record.ID()
}

// put gives a pod a session, as if it had recreated it.
func (p *pod) put(id string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.sessions[id] = 0
}

// set changes a pod.
func (p *pod) set(change func(p *pod)) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	change(p)
}

// places returns the ordinals of the pods that have a session.
func (s *set) places(id string) (places []uint16) {
	for _, p := range s.all() {
		if p.State(id) == session.Live {
			places = append(places, p.ordinal)
		}
	}
	slices.Sort(places)
	return places
}

// by returns the ordinal of the pod that has answered a call.
func (a answerTo) by(t *testing.T) uint16 {
	t.Helper()
	var ordinal uint16
	if _, err := fmt.Sscanf(a.text, "pod %d call", &ordinal); err != nil || a.status != http.StatusOK {
		t.Fatalf("no pod has answered: %+v", a)
	}
	return ordinal
}

func (p *pod) call(t *testing.T, id string, headers ...string) answerTo {
	t.Helper()
	return p.send(t.Context(), http.MethodPost, id, "x", headers...)
}
