package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

const (
	// mostCalls is the number of requests of a client that may be in progress in one session.
	mostCalls = 1000
	// mostAsked is the number of requests of a server that may be in progress in one session.
	mostAsked = 1000
)

// call is a request of the client in progress.
type call struct {
	id     json.RawMessage
	key    string
	token  string // progress token; empty if there is none
	method string
	group  *group
	// process is the one to which the request was sent.
	process *process.Process
}

// group is one request or a batch. Its responses go on one stream, which ends with the last of them.
type group struct {
	log  *stream.Log
	left int
}

// Errors of Session.Call and Session.Send.
var (
	// ErrDuplicate is the error of a request whose id is that of a request in progress.
	ErrDuplicate = errors.New("a request with this id is in progress")
	// ErrBusy is the error of a request to a session that has too many requests in progress.
	ErrBusy = errors.New("the session has too many requests in progress")
)

// hasCalls reports whether a request of the client is in progress, also if the client has disconnected.
func (s *Session) hasCalls() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.calls) > 0
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
		calls[i] = &call{id: request.ID, key: rpc.Key(request.ID), token: progressToken(request.Params), method: request.Method, group: g, process: p}
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
		return session.ErrEnded
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

// finish puts the response to a call on its stream.
func (s *Session) finish(c *call, isLast bool, response json.RawMessage) {
	if !isLast || s.single {
		_ = c.group.log.Add(s.ctx, response)
		return
	}
	_ = c.group.log.Finish(context.WithoutCancel(s.ctx), response)
	s.endStream(c.group.log)
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
		s.backend.draining.Notify()
	}
	return c, c.group.left == 0
}

// fail answers a call with an error, if it is in progress.
func (s *Session) fail(c *call, text string) {
	if removed, isLast := s.remove(func(other *call) bool { return other == c }); removed != nil {
		s.finish(c, isLast, rpc.Error(c.id, rpc.Unavailable, text, nil))
	}
}

// failCalls answers calls in progress with an error: those of a process, or all if it is nil.
func (s *Session) failCalls(p *process.Process, text string) {
	s.mutex.Lock()
	calls := slices.Clone(s.calls)
	s.mutex.Unlock()
	for _, c := range calls {
		if p == nil || c.process == p {
			s.fail(c, text)
		}
	}
}

// progressToken returns the token by which a request asks for progress, as it was written; empty if it does not.
func progressToken(params json.RawMessage) string {
	return string(rpc.Get(params, "_meta", "progressToken"))
}
