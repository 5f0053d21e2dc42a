package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcpserver-operator/runner/rpc"
)

// stormStream is a session of HTTP+SSE, and what the model knows of it. It is its stream: it ends with the stream, with its pod, and with each pod that
// forwards the stream, and no other pod goes on with it.
type stormStream struct {
	label string
	id    string
	path  string // for messages
	via   *pod   // through which the stream comes
	leave context.CancelFunc
	ended chan struct{} // closed when the stream has ended

	calling sync.Mutex // held during a call that depends on the state of the server

	mutex   sync.Mutex
	last    int
	memory  []string // what the server may remember
	answers map[string]chan string
	owner   *pod // at the begin of the step; nil if the session was opened in this step
	mayEnd  bool // the client has left, or the process was made to exit
}

// GoString keeps a session readable in the output of rapid.
func (one *stormStream) GoString() string { return one.label }

func (one *stormStream) hasEnded() bool {
	select {
	case <-one.ended:
		return true
	default:
		return false
	}
}

// expectAnswer returns a channel that receives the answer to a request.
func (one *stormStream) expectAnswer(id string) <-chan string {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	answer := make(chan string, 1)
	one.answers[id] = answer
	return answer
}

// mayLoseStream reports whether the stream of a session may end in this step.
func (s *stormStep) mayLoseStream(one *stormStream) bool {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	return one.mayEnd || (len(s.victims) > 0 && (one.owner == nil || slices.Contains(s.victims, one.owner) || slices.Contains(s.victims, one.via)))
}

// openStream opens a session of HTTP+SSE.
func (s *stormStep) openStream() {
	ctx, leave := context.WithCancel(context.Background())
	var (
		via *pod
		a   *answer
		err error
	)
	for range 20 {
		via = s.via()
		if a, err = s.beginAt(ctx, via.clients.URL+ssePath, http.MethodGet, ""); !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	if err != nil || a.status != http.StatusOK {
		o := outcome{err: err}
		if err == nil {
			text, _ := io.ReadAll(a.body)
			o = outcome{status: a.status, messages: []string{string(text)}, retryAfter: a.header.Get("Retry-After")}
			_ = a.body.Close()
		}
		s.judge("open a stream", nil, via, o, false)
		leave()
		return
	}
	first := a.event()
	if first == nil || first.Name != "endpoint" {
		if first != nil || len(s.victims) == 0 {
			s.fail("a stream through %d begins with %+v", via.config.ordinal, first)
		}
		_ = a.body.Close()
		leave()
		return
	}
	one := &stormStream{path: "/" + string(first.Data), via: via, leave: leave, ended: make(chan struct{}), memory: []string{""}, answers: map[string]chan string{}}
	_, one.id, _ = strings.Cut(one.path, "=")
	one.label = "stream " + s.number()
	s.mutex.Lock()
	s.streams = append(s.streams, one)
	s.mutex.Unlock()
	s.note("%s is opened through %d", one.label, via.config.ordinal)
	go s.read(one, a)
	s.ask(one, "initialize", "0", initialize(rpc.HTTPWithSSE))
	s.sendOn(one, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// read reads the stream of a session until it ends.
func (s *storm) read(one *stormStream, a *answer) {
	defer close(one.ended)
	defer a.body.Close()
	for event := a.event(); event != nil; event = a.event() {
		id := string(rpc.Get(event.Data, "id"))
		if id == "" {
			continue // a notification
		}
		one.mutex.Lock()
		answer := one.answers[id]
		delete(one.answers, id)
		one.mutex.Unlock()
		if answer == nil {
			s.fail("%s: nobody has asked for %.200s, or it comes twice", one.label, event.Data)
			continue
		}
		answer <- string(event.Data)
	}
	s.note("%s has ended", one.label)
}

// sendOn sends a message of a session to a pod that clients may reach.
func (s *stormStep) sendOn(one *stormStream, body string) (o outcome, via *pod) {
	for range 20 {
		via = s.via()
		if o = s.sendAt(via, one.path, body); !errors.Is(o.err, syscall.ECONNREFUSED) {
			break
		}
	}
	return o, via
}

func (s *storm) sendAt(via *pod, path, body string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	a, err := s.beginAt(ctx, via.clients.URL+path, http.MethodPost, body)
	if err != nil {
		return outcome{err: err}
	}
	defer a.body.Close()
	text, err := io.ReadAll(a.body)
	return outcome{status: a.status, messages: []string{string(text)}, err: err, retryAfter: a.header.Get("Retry-After")}
}

// ask sends a request of a session, and waits for the answer on its stream. If there is none, the request may have been carried out or not.
func (s *stormStep) ask(one *stormStream, what, id, body string) (text string, isAnswered bool) {
	answer := one.expectAnswer(id)
	o, via := s.sendOn(one, body)
	s.note("%s: %s through %d: %s", one.label, what, via.config.ordinal, o)
	isVictim, mayLose := slices.Contains(s.victims, via), s.mayLoseStream(one)
	switch {
	case errors.Is(o.err, context.DeadlineExceeded):
		s.fail("%s: %s hangs", one.label, what)
	case o.err != nil:
		if !isVictim && (s.kind != killing || !mayLose) {
			s.fail("%s: %s: the connection broke: %v", one.label, what, o.err)
		}
	case o.status == http.StatusAccepted:
		return s.await(one, what, answer)
	case o.status == http.StatusServiceUnavailable && o.retryAfter != "", o.status == http.StatusNotFound, o.status == http.StatusBadGateway:
		if !mayLose && (s.kind != killing || !isVictim) {
			s.fail("%s: %s is refused: %s", one.label, what, o)
		}
	default:
		s.fail("%s: %s: unexpected status: %s", one.label, what, o)
	}
	return "", false
}

// await waits for an answer on the stream of a session, as long as the stream lasts.
func (s *stormStep) await(one *stormStream, what string, answer <-chan string) (text string, isAnswered bool) {
	select {
	case text = <-answer:
		return text, true
	case <-one.ended:
	case <-time.After(requestTimeout):
		s.fail("%s: %s has no answer", one.label, what)
		return "", false
	}
	select {
	case text = <-answer: // the last message
		return text, true
	default:
	}
	one.mutex.Lock()
	defer one.mutex.Unlock()
	if !one.mayEnd && s.kind != killing && !slices.Contains(s.victims, one.via) { // a pod that drains lets calls end
		s.fail("%s: the stream ends without the answer to %s", one.label, what)
	}
	return "", false
}

// next returns the next value to remember, and the request.
func (one *stormStream) next() (id, value, body string) {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	one.last++
	id = strconv.Itoa(one.last)
	value = fmt.Sprintf("%q", fmt.Sprintf("value %d of %s", one.last, one.label))
	return id, value, toolCall(id, "remember", fmt.Sprintf(`{"value":%s}`, value))
}

// rememberOn lets the server remember a value. It says what it remembered before, which it never forgets.
func (s *stormStep) rememberOn(one *stormStream) {
	one.calling.Lock()
	defer one.calling.Unlock()
	id, value, body := one.next()
	text, isAnswered := s.ask(one, "remember", id, body)
	s.remembers(one, value, text, isAnswered)
}

func (s *stormStep) remembers(one *stormStream, value, text string, isAnswered bool) {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	if !isAnswered || (errorCode(text) == "-32000" && one.mayEnd) {
		one.memory = append(one.memory, value)
		return
	}
	if got := resultText(text); !slices.Contains(one.memory, got) {
		s.fail("%s: the server remembers %s instead of %s", one.label, got, one.memory)
	}
	one.memory = []string{value}
}

// countOn calls a tool. Several such calls may be in progress.
func (s *stormStep) countOn(one *stormStream) {
	id := s.number()
	s.ask(one, "count", id, toolCall(id, "count", "{}"))
}

// leaveStream ends a session as its client does.
func (s *stormStep) leaveStream(one *stormStream) {
	one.mutex.Lock()
	one.mayEnd = true
	one.mutex.Unlock()
	one.leave()
}

// exitOn lets the process of a session exit in a call.
func (s *stormStep) exitOn(one *stormStream) {
	one.mutex.Lock()
	one.mayEnd = true
	one.mutex.Unlock()
	id := s.number()
	if text, isAnswered := s.ask(one, "exit", id, toolCall(id, "exit", "{}")); isAnswered && errorCode(text) != "-32000" {
		s.fail("%s: the call that ends the server gets the answer %s", one.label, text)
	}
}

// restOfStream checks a session through each pod: all reach it if it has its stream, and none if the stream has ended.
func (s *stormStep) restOfStream(one *stormStream) {
	if one.hasEnded() && !s.mayLoseStream(one) {
		s.fail("%s has ended", one.label)
	}
	for _, via := range s.reachable() {
		for deadline := time.Now().Add(restTimeout); !s.isRightThrough(one, via); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				s.fail("%s is wrong at rest through %d", one.label, via.config.ordinal)
				return
			}
		}
	}
	one.mayEnd = one.mayEnd || one.hasEnded() // it stays ended
}

func (s *stormStep) isRightThrough(one *stormStream, via *pod) bool {
	wasEnded := one.hasEnded()
	id, value, body := one.next()
	answer := one.expectAnswer(id)
	o := s.sendAt(via, one.path, body)
	s.note("%s: at rest through %d: %s", one.label, via.config.ordinal, o)
	if o.status == http.StatusAccepted {
		text, isAnswered := s.await(one, "remember", answer)
		s.remembers(one, value, text, isAnswered)
		return isAnswered && !wasEnded
	}
	return o.status == http.StatusNotFound && wasEnded
}
