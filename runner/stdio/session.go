package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

const (
	// mostEnded is the number of ended streams that a session keeps for clients that were disconnected.
	mostEnded = 8
	// mostCalls is the number of requests of a client that may be in progress in one session.
	mostCalls = 1000
	// mostAsked is the number of requests of a server that may be in progress in one session.
	mostAsked = 1000
)

// Session is a session of a client with a process of its own. It may be used by several goroutines.
type Session struct {
	backend *Backend
	ctx     context.Context // the life of the session, not of a request
	cancel  context.CancelCauseFunc
	streams streamNames
	general *stream.Log
	single  bool

	starting sync.Mutex // held while a process is started and initialized again

	mutex      sync.Mutex
	label      string
	process    *process.Process
	isReady    bool                   // the process has received the request initialize, or waits for it
	initialize rpc.Message            // what to send to the next process
	calls      []*call                // in progress, in the order of their start
	asked      map[string]*stream.Log // where the requests of the server went
	ended      []*stream.Log
	answers    chan rpc.Message // receives the answer to the request initialize of the runner; nil if there is none
}

// call is a request of the client in progress.
type call struct {
	id     json.RawMessage
	key    string
	token  string // progress token; empty if there is none
	method string
	group  *group
}

// group is one request or a batch. Its responses go on one stream, which ends with the last of them.
type group struct {
	log  *stream.Log
	left int
}

// Errors of Session.
var (
	// ErrEnded is the error of a request to a session that was ended, or whose process has ended and is not replaced.
	ErrEnded = errors.New("the session has ended")
	// ErrMoved is why a session ends that another pod may recreate.
	ErrMoved = errors.New("this pod does not serve the session any more")
	// ErrDuplicate is the error of a request whose id is that of a request in progress.
	ErrDuplicate = errors.New("a request with this id is in progress")
	// ErrBusy is the error of a request to a session that has too many requests in progress.
	ErrBusy = errors.New("the session has too many requests in progress")
)

func newSession(b *Backend) *Session {
	ctx, cancel := context.WithCancelCause(b.ctx)
	s := &Session{backend: b, ctx: ctx, cancel: cancel, streams: newStreamNames(), asked: map[string]*stream.Log{}, label: "new"}
	s.general = stream.NewLog(s.streams.general(), b.config.StreamBytes)
	return s
}

// setLabel sets the name of the session in logs.
func (s *Session) setLabel(label string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.label = label
	if s.process != nil {
		s.process.SetName(label)
	}
}

// SetID tells the session its id, for logs.
func (s *Session) SetID(id string) { s.setLabel(session.Short(id)) }

// onOneStream sends all messages to the general stream, as the transport HTTP+SSE requires. Such a session ends with its process.
func (s *Session) onOneStream() { s.single = true }

func (s *Session) canRestart() bool { return s.backend.config.Restart && !s.single }

// hasCalls reports whether a request of the client is in progress, also if the client has disconnected.
func (s *Session) hasCalls() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.calls) > 0
}

// begin takes a process and reads its messages.
func (s *Session) begin(reason string, isReady bool) (*process.Process, error) {
	s.mutex.Lock()
	label := s.label
	s.mutex.Unlock()
	p, err := s.backend.take(reason, label)
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	s.process, s.isReady = p, isReady
	hasEnded := s.ctx.Err() != nil
	s.mutex.Unlock()
	s.backend.running.Go(func() { s.read(p) })
	if hasEnded { // Close did not see the process
		go p.Stop()
		return nil, ErrEnded
	}
	return p, nil
}

// Call sends a request, or the requests of a batch. The messages that belong to it are on the stream of the reader, which ends with the last response. The
// reader is nil if all messages of the session are on one stream.
func (s *Session) Call(ctx context.Context, requests ...rpc.Message) (*stream.Reader, error) {
	p, err := s.ensure(ctx, requests[0].Method)
	if err != nil {
		return nil, err
	}
	return s.call(p, requests...)
}

func (s *Session) call(p *process.Process, requests ...rpc.Message) (reader *stream.Reader, err error) {
	g := &group{log: s.general, left: len(requests)}
	calls := make([]*call, len(requests))
	for i, request := range requests {
		calls[i] = &call{id: request.ID, key: rpc.Key(request.ID), token: progressToken(request.Params), method: request.Method, group: g}
	}
	s.mutex.Lock()
	if err := s.canCall(calls); err != nil {
		s.mutex.Unlock()
		return nil, err
	}
	if !s.single {
		g.log = stream.NewLog(s.streams.next(requests[0].ID), s.backend.config.StreamBytes)
		reader = g.log.Attach(0) // before the server can answer: messages go on a stream that has a reader
	}
	s.calls = append(s.calls, calls...)
	s.mutex.Unlock()
	for i, request := range requests {
		if err := p.Send(request.Raw); err != nil {
			for _, c := range calls[i:] {
				s.fail(c, err.Error())
			}
			break
		}
	}
	return reader, nil
}

// canCall reports whether calls may begin. Requires the lock.
func (s *Session) canCall(calls []*call) error {
	if s.ctx.Err() != nil {
		return ErrEnded
	}
	if len(s.calls)+len(calls) > mostCalls {
		return ErrBusy
	}
	for i, c := range calls {
		isSame := func(other *call) bool { return other.key == c.key }
		if slices.ContainsFunc(s.calls, isSame) || slices.ContainsFunc(calls[:i], isSame) {
			return ErrDuplicate
		}
	}
	return nil
}

// Send sends a notification or a response. A notification that cancels a request ends its stream without a response. A response to a question that the
// process has not asked is dropped: the question may be that of an earlier process.
func (s *Session) Send(ctx context.Context, message rpc.Message) error {
	p, err := s.ensure(ctx, message.Method)
	if err != nil {
		return err
	}
	if message.Kind == rpc.Response {
		s.mutex.Lock()
		_, isAsked := s.asked[rpc.Key(message.ID)]
		delete(s.asked, rpc.Key(message.ID))
		s.mutex.Unlock()
		if !isAsked {
			return nil
		}
	}
	if message.Method == "notifications/cancelled" {
		if !s.cancelCall(rpc.Key(rpc.Get(message.Params, "requestId"))) {
			return nil
		}
	}
	return p.Send(message.Raw)
}

// cancelCall ends a call without a response. It reports whether the server must hear of it: the request initialize cannot be cancelled.
func (s *Session) cancelCall(key string) bool {
	s.mutex.Lock()
	i := slices.IndexFunc(s.calls, func(c *call) bool { return c.key == key })
	if i >= 0 && s.calls[i].method == "initialize" {
		s.mutex.Unlock()
		return false
	}
	s.mutex.Unlock()
	if c, isLast := s.remove(func(c *call) bool { return c.key == key }); c != nil && isLast {
		s.endStream(c.group.log)
	}
	return true
}

// General returns the stream of messages that belong to no request.
func (s *Session) General() *stream.Log { return s.general }

// Stream returns a stream by name; nil if the session does not have it, or not any more.
func (s *Session) Stream(name string) *stream.Log {
	if name == s.general.Name {
		return s.general
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, c := range s.calls {
		if c.group.log.Name == name {
			return c.group.log
		}
	}
	for _, log := range s.ended {
		if log.Name == name {
			return log
		}
	}
	return nil
}

// Knows reports whether the stream with this name is or was one of this session, since it was opened or recreated.
func (s *Session) Knows(name string) bool { return s.streams.has(name) }

// IsEnded reports whether the session was ended, or its process has ended and is not replaced.
func (s *Session) IsEnded() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.ctx.Err() != nil || (!s.canRestart() && s.running() == nil)
}

// Cause returns why the session has ended; nil if it has not.
func (s *Session) Cause() error { return context.Cause(s.ctx) }

// Close ends the session with ErrEnded or ErrMoved, and its process in the background.
func (s *Session) Close(cause error) {
	s.cancel(cause)
	s.failCalls(cause.Error())
	s.general.Close()
	s.mutex.Lock()
	p := s.process
	s.mutex.Unlock()
	if p != nil {
		s.backend.running.Go(p.Stop)
	}
}

// read receives the messages of a process until its end.
func (s *Session) read(p *process.Process) {
	for line := p.Next(); line != nil; line = p.Next() {
		messages, _, err := rpc.ParseBody(line)
		if err != nil {
			s.backend.config.Metrics.Skipped.Inc()
			continue
		}
		for _, message := range messages {
			s.receive(p, message)
		}
	}
	<-p.Done()
	s.mutex.Lock()
	clear(s.asked)
	s.mutex.Unlock()
	s.failCalls("the server has ended before it answered the request: " + exitText(p.Err()))
	if s.ctx.Err() != nil || !s.canRestart() {
		s.general.Close()
	}
}

func exitText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// receive puts a message of the server on exactly one stream.
func (s *Session) receive(p *process.Process, message rpc.Message) {
	switch message.Kind {
	case rpc.Response:
		if s.isAnswer(message) {
			return
		}
		key := rpc.Key(message.ID)
		if c, isLast := s.remove(func(c *call) bool { return c.key == key }); c != nil { // else it was cancelled
			s.finish(c, isLast, message.Raw)
		}
	case rpc.Request:
		log := s.streamOf(message)
		s.mutex.Lock()
		isFull := len(s.asked) >= mostAsked
		if !isFull {
			s.asked[rpc.Key(message.ID)] = log
		}
		s.mutex.Unlock()
		if isFull {
			_ = p.Send(rpc.Error(message.ID, rpc.Unavailable, "too many requests to the client are in progress", nil)) // else the process has ended
			return
		}
		_ = log.Add(s.ctx, message.Raw) // else the session has ended
	case rpc.Notification:
		_ = s.streamOf(message).Add(s.ctx, message.Raw)
	}
}

// isAnswer reports whether a message is the answer to the request initialize of the runner, and passes it on.
func (s *Session) isAnswer(message rpc.Message) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.answers == nil || string(message.ID) != restartID {
		return false
	}
	s.answers <- message // it has room for one
	s.answers = nil
	return true
}

// finish puts the response to a call on its stream.
func (s *Session) finish(c *call, isLast bool, response json.RawMessage) {
	if !isLast || s.single {
		_ = c.group.log.Add(s.ctx, response)
		return
	}
	_ = c.group.log.Finish(context.WithoutCancel(s.ctx), response)
	s.endStream(c.group.log)
}

// streamOf returns the stream of a request or a notification of the server. On stdio, only a progress notification says to which request it belongs. The
// others belong to the latest request in progress that has a connected client, if they are not about the server as a whole.
func (s *Session) streamOf(message rpc.Message) *stream.Log {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case message.Method == "notifications/progress":
		token := string(rpc.Get(message.Params, "progressToken"))
		for _, c := range s.calls {
			if c.token == token {
				return c.group.log
			}
		}
	case message.Method == "notifications/cancelled":
		key := rpc.Key(rpc.Get(message.Params, "requestId"))
		if log, isAsked := s.asked[key]; isAsked {
			delete(s.asked, key)
			if !log.IsClosed() {
				return log
			}
		}
	case isGeneral(message.Method):
		return s.general
	}
	for _, c := range slices.Backward(s.calls) {
		if c.group.log.HasReader() {
			return c.group.log
		}
	}
	return s.general
}

// remove removes a call from those in progress, and reports whether it was the last of its stream.
func (s *Session) remove(is func(*call) bool) (c *call, isLast bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	i := slices.IndexFunc(s.calls, is)
	if i < 0 {
		return nil, false
	}
	c = s.calls[i]
	s.calls = slices.Delete(s.calls, i, i+1)
	c.group.left--
	if len(s.calls) == 0 {
		s.backend.notify()
	}
	return c, c.group.left == 0
}

// endStream ends the stream of a request, and keeps it for a while for a client that was disconnected.
func (s *Session) endStream(log *stream.Log) {
	if s.single {
		return
	}
	log.Close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.ended = append(s.ended, log)
	if len(s.ended) > mostEnded {
		s.ended = slices.Delete(s.ended, 0, 1)
	}
}

// fail answers a call with an error, if it is in progress.
func (s *Session) fail(c *call, text string) {
	if removed, isLast := s.remove(func(other *call) bool { return other == c }); removed != nil {
		s.finish(c, isLast, rpc.Error(c.id, rpc.Unavailable, text, nil))
	}
}

// failCalls answers all calls in progress with an error.
func (s *Session) failCalls(text string) {
	s.mutex.Lock()
	calls := slices.Clone(s.calls)
	s.mutex.Unlock()
	for _, c := range calls {
		s.fail(c, text)
	}
}

// progressToken returns the token by which a request asks for progress, as it was written; empty if it does not.
func progressToken(params json.RawMessage) string {
	return string(rpc.Get(params, "_meta", "progressToken"))
}

// ensure returns the process of the session. If it has ended, it starts another one and initializes it as the client has initialized the first.
func (s *Session) ensure(ctx context.Context, method string) (*process.Process, error) {
	s.mutex.Lock()
	p := s.running()
	s.mutex.Unlock()
	if s.ctx.Err() != nil {
		return nil, ErrEnded
	}
	if p != nil {
		return p, nil
	}
	if !s.canRestart() || method == "initialize" {
		return nil, ErrEnded
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	s.mutex.Lock()
	p, initialize := s.running(), s.initialize
	s.mutex.Unlock()
	if p != nil {
		return p, nil // another request has started it
	}
	if initialize.Raw == nil {
		return nil, ErrEnded
	}
	p, err := s.restart(ctx, initialize)
	if err != nil {
		return nil, fmt.Errorf("starting the server of the session again: %w", err)
	}
	return p, nil
}

// running returns the process if it runs and may receive requests. Requires the lock.
func (s *Session) running() *process.Process {
	if s.process == nil || !s.isReady {
		return nil
	}
	select {
	case <-s.process.Done():
		return nil
	default:
		return s.process
	}
}

// streamNames makes the names of the streams of a session: a part that is unique to this process of the runner, a number, and the id of the request. The
// id of a request in progress is all that another pod needs to answer it with an error after this pod is lost.
type streamNames struct {
	epoch string
	last  *int
}

func newStreamNames() streamNames { return streamNames{epoch: randomText(), last: new(int)} }

func (n streamNames) general() string { return n.epoch + ".0" }

// next returns the name of the stream of a request. The caller has the lock of the session.
func (n streamNames) next(id json.RawMessage) string {
	*n.last++
	name := n.epoch + "." + strconv.Itoa(*n.last)
	if len(id) <= mostNamedID {
		name += "." + encoding.EncodeToString(id)
	}
	return name
}
