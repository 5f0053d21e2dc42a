package stdio

import (
	"context"
	"sync"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
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
	clear(s.asked)
	hasEnded := s.ctx.Err() != nil
	s.mutex.Unlock()
	s.backend.running.Go(func() { s.read(p) })
	if hasEnded { // Close did not see the process
		go p.Stop()
		return nil, session.ErrEnded
	}
	return p, nil
}

// IsEnded reports whether the session was ended, or its process has ended and is not replaced.
func (s *Session) IsEnded() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.ctx.Err() != nil || (!s.canRestart() && s.running() == nil)
}

// Cause returns why the session has ended; nil if it has not.
func (s *Session) Cause() error { return context.Cause(s.ctx) }

// Close ends the session with session.ErrEnded or session.ErrMoved, and its process in the background.
func (s *Session) Close(cause error) {
	s.cancel(cause)
	s.failCalls(nil, cause.Error())
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
	if s.process == p { // else the session has another process already
		clear(s.asked)
	}
	s.mutex.Unlock()
	s.failCalls(p, "the server has ended before it answered the request: "+exitText(p.Err()))
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
