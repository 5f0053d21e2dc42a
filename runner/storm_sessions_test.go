package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"pgregory.net/rapid"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stream"
)

// stormSession is a session of a client, and what the model knows of it.
type stormSession struct {
	number  int
	id      string
	version string
	label   string // in the history

	calling sync.Mutex // held during a call that depends on the state of the server: its client sends these one after the other

	mutex  sync.Mutex
	last   int      // value that was sent
	memory []string // what the server may remember: the last value that it has confirmed, and those after it whose calls have failed
	owner  *pod     // at the begin of the step; nil if the session was opened in this step
	isNew  bool     // opened in this step
	// hasCrashed is true if the process of the session was made to exit in this step.
	hasCrashed bool
	// isEnding is true from the begin of a DELETE, and isEnded from its answer. If it had none, the session may have ended or not.
	isEnding, isEnded bool
	// isGone is true from the first answer with status 404.
	isGone bool
}

// stormStep is a step of the storm.
type stormStep struct {
	*storm
	kind    eventKind
	pods    []*pod // at the begin
	victims []*pod // that are killed or drain during the step
}

// act is what a client does.
type act struct {
	after time.Duration // after the begin of the step
	do    func()
}

func (s *stormStep) begin() {
	for _, one := range s.streams {
		one.owner = nil
		if places := s.places(one.id); len(places) > 0 {
			one.owner = places[0]
		}
	}
	for _, one := range s.sessions {
		one.owner, one.isNew, one.hasCrashed = nil, false, false
		if places := s.places(one.id); len(places) > 0 {
			one.owner = places[0]
		}
	}
}

// draw draws the acts of the clients.
func (s *stormStep) draw(r *rapid.T) (acts []act) {
	known, streams := slices.Clone(s.sessions), slices.Clone(s.streams)
	onStream := []func(*stormStream){s.rememberOn, s.rememberOn, s.countOn, s.countOn, s.leaveStream, s.exitOn}
	kinds := []func(*stormSession){s.remember, s.remember, s.remember, s.count, s.progress, s.progress, s.resume, s.cancel, s.listen, s.end, s.exit}
	names := []string{"remember", "remember", "remember", "count", "progress", "progress", "resume", "cancel", "listen", "delete", "exit"}
	for range rapid.IntRange(1, 8).Draw(r, "acts") {
		one := act{}
		if len(s.victims) > 0 {
			one.after = time.Duration(rapid.IntRange(0, 20).Draw(r, "after")) * 10 * time.Millisecond
		}
		what := rapid.IntRange(0, 9).Draw(r, "client")
		isStream := !s.isHTTP && (what == 3 || what == 4)
		switch {
		case what < 2 || (len(known) == 0 && !isStream):
			version := rapid.SampledFrom(rpc.Legacy[1:]).Draw(r, "version")
			one.do = func() { s.open(version) }
		case what == 2 && s.behavior == "modern":
			one.do = rapid.SampledFrom([]func(){s.callModern, s.subscribe}).Draw(r, "request without a session")
		case isStream && (len(streams) == 0 || rapid.IntRange(0, 3).Draw(r, "new stream") == 0):
			one.do = s.openStream
		case isStream:
			do := rapid.SampledFrom(onStream).Draw(r, "on a stream")
			target := rapid.SampledFrom(streams).Draw(r, "stream")
			one.do = func() { do(target) }
		default:
			kind := rapid.IntRange(0, len(kinds)-1).Draw(r, "kind")
			target := rapid.SampledFrom(known).Draw(r, "session")
			one.do = func() { s.note("%s: %s", target.label, names[kind]); kinds[kind](target) }
		}
		acts = append(acts, one)
	}
	return acts
}

// GoString keeps a session readable in the output of rapid.
func (one *stormSession) GoString() string { return one.label }

// via returns a pod that clients may reach.
func (s *stormStep) via() *pod {
	pods := s.reachable()
	return pods[rand.IntN(len(pods))]
}

// send sends a request to a pod that clients may reach. It tries another pod if nothing listens, as the address of a pod that has just ended.
func (s *stormStep) send(method, body string, headers ...string) (o outcome, via *pod) {
	for range 20 {
		via = s.via()
		o = s.storm.send(via, method, body, headers...)
		if !errors.Is(o.err, syscall.ECONNREFUSED) {
			break
		}
	}
	return o, via
}

func (s *storm) begin(ctx context.Context, via *pod, method, body string, headers ...string) (*answer, error) {
	return s.beginAt(ctx, via.url, method, body, headers...)
}

func (s *storm) beginAt(ctx context.Context, url, method, body string, headers ...string) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.http.Do(request) //nolint:bodyclose // answer closes it
	if err != nil {
		return nil, err
	}
	return &answer{s.t, response.StatusCode, response.Header, response.Body, stream.NewScanner(response.Body, 64<<20)}, nil
}

func (one *stormSession) headers(more ...string) []string {
	return append([]string{legacy.SessionHeader, one.id, legacy.VersionHeader, one.version}, more...)
}

// mayBeLost reports whether the pod or the process of a session may have ended in this step.
func (s *stormStep) mayBeLost(one *stormSession) bool {
	return one.hasCrashed || (len(s.victims) > 0 && (one.owner == nil || slices.Contains(s.victims, one.owner)))
}

// judge checks an answer about a session. It returns whether the request was answered with a result; if not, it may have been carried out or not. one is nil
// for a request without a session.
func (s *stormStep) judge(what string, one *stormSession, via *pod, o outcome, wasEnded bool) (isAnswered bool) {
	label := "no session"
	if one != nil {
		label = one.label
		one.mutex.Lock()
		defer one.mutex.Unlock()
	}
	s.note("%s: %s through %d: %s", label, what, via.config.ordinal, o)
	isKill := s.kind == killing && (slices.Contains(s.victims, via) || (one != nil && s.mayBeLost(one)))
	isOver := one != nil && (one.hasCrashed || one.isEnding)
	switch {
	case errors.Is(o.err, context.DeadlineExceeded):
		s.fail("%s: %s hangs", label, what)
	case o.err != nil: // the connection broke
		if !isKill && (!slices.Contains(s.victims, via) || o.status != 0) { // the pod had ended before the request arrived
			s.fail("%s: %s: the connection broke: %v", label, what, o.err)
		}
	case o.status == http.StatusNotFound && one != nil:
		if !one.isEnding && (!s.isEnd || (!one.isGone && !s.mayBeLost(one))) {
			s.fail("%s: %s: the session was not ended: %s", label, what, o)
		}
		one.isGone = true
	case o.status == http.StatusServiceUnavailable:
		if o.retryAfter == "" || (!isKill && (!s.isEnd || len(s.victims) == 0)) {
			s.fail("%s: %s is refused: %s", label, what, o)
		}
	case o.status == http.StatusBadGateway, errorCode(o.last()) == "-32000":
		if !isKill && !isOver {
			s.fail("%s: %s fails: %s", label, what, o)
		}
	case o.status >= http.StatusBadRequest:
		s.fail("%s: %s: unexpected status: %s", label, what, o)
	case wasEnded:
		s.fail("%s: %s is answered after the end of the session: %s", label, what, o)
	case one != nil && one.isGone && s.isEnd && !one.isEnding:
		s.fail("%s: %s is answered after the session was lost: %s", label, what, o)
	default:
		return true
	}
	return false
}

// request sends a request of a session, and judges the answer.
func (s *stormStep) request(one *stormSession, what, method, body string, headers ...string) (o outcome, isAnswered bool) {
	one.mutex.Lock()
	wasEnded := one.isEnded
	one.mutex.Unlock()
	o, via := s.send(method, body, one.headers(headers...)...)
	return o, s.judge(what, one, via, o, wasEnded)
}

// open opens a session.
func (s *stormStep) open(version string) {
	o, via := s.send(http.MethodPost, initialize(version))
	if !s.judge("open", nil, via, o, false) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.lost++
		return
	}
	s.mutex.Lock()
	s.opened++
	one := &stormSession{number: s.opened, id: o.header.Get(legacy.SessionHeader), version: version, isNew: true, memory: []string{""}}
	one.label = fmt.Sprintf("session %d", one.number)
	s.sessions = append(s.sessions, one)
	s.mutex.Unlock()
	s.note("%s is opened", one.label)
	s.request(one, "initialized", http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// remember lets the server remember a value. It says what it remembered before.
func (s *stormStep) remember(one *stormSession) {
	one.calling.Lock()
	defer one.calling.Unlock()
	one.last++
	value := fmt.Sprintf("%q", fmt.Sprintf("value %d of %s", one.last, one.label))
	o, isAnswered := s.request(one, "remember", http.MethodPost, toolCall(strconv.Itoa(one.last), "remember", fmt.Sprintf(`{"value":%s}`, value)))
	one.mutex.Lock()
	defer one.mutex.Unlock()
	if !isAnswered {
		one.memory = append(one.memory, value)
		return
	}
	s.expect(one, strconv.Itoa(one.last), o)
	mayForget := !s.isEnd && s.mayBeLost(one)
	if got := resultText(o.last()); !slices.Contains(one.memory, got) && (got != "" || !mayForget) {
		s.fail("%s: the server remembers %s instead of %s", one.label, got, one.memory)
	}
	one.memory = []string{value}
}

// expect checks the id of a response.
func (s *stormStep) expect(one *stormSession, id string, o outcome) {
	if got := string(rpc.Get([]byte(o.last()), "id")); got != id {
		s.fail("%s: the request %s gets the answer %s", one.label, id, o)
	}
}

// count calls a tool. Several such calls may be in progress.
func (s *stormStep) count(one *stormSession) {
	id := s.number()
	if o, isAnswered := s.request(one, "count", http.MethodPost, toolCall(id, "count", "{}")); isAnswered {
		s.expect(one, id, o)
	}
}

// number returns an id of a request that no other request has.
func (s *stormStep) number() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.opened++
	return strconv.Itoa(1_000_000 + s.opened)
}

// progress calls a tool whose messages come on a stream.
func (s *stormStep) progress(one *stormSession) {
	id := s.number()
	if o, isAnswered := s.request(one, "progress", http.MethodPost, toolCall(id, "progress", "{}")); isAnswered {
		s.expect(one, id, o)
		if len(o.messages) != 3 || !strings.Contains(o.messages[0], `"token `+id+`"`) {
			s.fail("%s: the stream of the request %s has %q", one.label, id, o.messages)
		}
	}
}

// resume begins a call, loses the connection, and goes on with the stream on another one.
func (s *stormStep) resume(one *stormSession) {
	if one.version != rpc.Polling {
		s.count(one)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	id := s.number()
	a, err := s.storm.begin(ctx, s.via(), http.MethodPost, toolCall(id, "sleep", `{"ns":120000000}`), one.headers()...)
	if err != nil || !a.isStream() {
		if err == nil {
			_ = a.body.Close()
		}
		return
	}
	first := a.event()
	_ = a.body.Close()
	if first == nil || first.ID == nil {
		return
	}
	o, isAnswered := s.request(one, "resume", http.MethodGet, "", legacy.LastEventIDHeader, *first.ID)
	if isAnswered && o.status == http.StatusOK && len(o.messages) > 0 {
		s.expect(one, id, o)
	}
}

// cancel cancels a call.
func (s *stormStep) cancel(one *stormSession) {
	id := s.number()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if o, isAnswered := s.request(one, "never", http.MethodPost, toolCall(id, "never", "{}")); isAnswered && len(o.messages) > 0 {
			s.fail("%s: the cancelled request %s gets the answer %s", one.label, id, o)
		}
	}()
	for { // until the call has arrived
		s.request(one, "cancel", http.MethodPost, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id))
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// listen reads the general stream for a while.
func (s *stormStep) listen(one *stormSession) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	a, err := s.storm.begin(ctx, s.via(), http.MethodGet, "", one.headers()...)
	if err != nil {
		return
	}
	defer a.body.Close()
	s.request(one, "changed", http.MethodPost, toolCall(s.number(), "changed", "{}"))
	for event := a.event(); event != nil; event = a.event() {
		if len(event.Data) > 0 && !strings.Contains(string(event.Data), "list_changed") {
			s.fail("%s: the general stream has %s", one.label, event.Data)
		}
	}
}

// end ends a session.
func (s *stormStep) end(one *stormSession) {
	one.mutex.Lock()
	one.isEnding = true
	one.mutex.Unlock()
	o, via := s.send(http.MethodDelete, "", one.headers()...)
	if s.judge("delete", one, via, o, false) {
		one.mutex.Lock()
		one.isEnded = true
		one.mutex.Unlock()
	}
}

// exit lets the process of a session exit in a call.
func (s *stormStep) exit(one *stormSession) {
	one.calling.Lock()
	defer one.calling.Unlock()
	one.mutex.Lock()
	one.hasCrashed = true
	one.mutex.Unlock()
	if o, isAnswered := s.request(one, "exit", http.MethodPost, toolCall(s.number(), "exit", "{}")); isAnswered && !one.isEnding {
		s.fail("%s: the call that ends the server gets the answer %s", one.label, o)
	}
}

// callModern sends a request without a session.
func (s *stormStep) callModern() {
	id := s.number()
	o, via := s.send(http.MethodPost, modernCall(id, "count", "{}"), modernHeaders("tools/call", "count")...)
	if s.judge("modern call", nil, via, o, false) && string(rpc.Get([]byte(o.last()), "id")) != id {
		s.fail("the request %s without a session gets the answer %s", id, o)
	}
}

func modernHeaders(method, name string) []string {
	return []string{legacy.VersionHeader, rpc.Modern, "Mcp-Method", method, "Mcp-Name", name}
}

// subscribe listens without a session, until the pod drains or for a while.
func (s *stormStep) subscribe() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	a, err := s.storm.begin(ctx, s.via(), http.MethodPost, modernBody(s.number(), "subscriptions/listen", ""), modernHeaders("subscriptions/listen", "")...)
	if err != nil {
		return
	}
	defer a.body.Close()
	for event := a.event(); event != nil; event = a.event() {
		s.note("subscription: %s", event.Data)
	}
}
