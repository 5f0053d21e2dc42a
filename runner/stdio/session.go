package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
	"mcpserver-operator/runner/stream"
)

// mostEnded is the number of ended calls whose messages a session keeps for clients that were disconnected.
const mostEnded = 8

// GeneralStream is the name of the stream of messages that belong to no request.
const GeneralStream = "g"

// Session is a session of a client with a process of its own. It may be used by several goroutines.
type Session struct {
	backend *Backend
	ctx     context.Context
	cancel  context.CancelCauseFunc
	general *stream.Log

	starting sync.Mutex // held while a process is started and initialized

	mutex      sync.Mutex
	shortName  string
	process    *process.Process
	initialize rpc.Message // what to send to the next process
	calls      []*call     // in progress, in the order of their start
	ended      []*stream.Log
	last       int
	single     bool
}

// call is a request of the client in progress.
type call struct {
	id    string
	token string // progress token; empty if there is none
	log   *stream.Log
}

// Errors of Session.
var (
	// ErrEnded is the error of a request to a session that was closed, or whose process has ended and is not replaced.
	ErrEnded = errors.New("the session has ended")
	// ErrDuplicate is the error of a request whose id is that of a request in progress.
	ErrDuplicate = errors.New("a request with this id is in progress")
)

func newSession(b *Backend) *Session {
	ctx, cancel := context.WithCancelCause(b.ctx)
	return &Session{backend: b, ctx: ctx, cancel: cancel, general: stream.NewLog(GeneralStream, b.config.StreamBytes), shortName: "new"}
}

// setName sets the name of the session in logs.
func (s *Session) setName(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.shortName = name
}

// SetID tells the session its id, for logs.
func (s *Session) SetID(id string) { s.setName(session.Short(id)) }

func (s *Session) name() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.shortName
}

// OnOneStream sends all messages to the general stream, as the transport HTTP+SSE requires.
func (s *Session) OnOneStream() { s.single = true }

// begin takes a process and reads its messages.
func (s *Session) begin(reason string) error {
	p, err := s.backend.take(reason, s.name())
	if err != nil {
		return err
	}
	s.mutex.Lock()
	s.process = p
	s.mutex.Unlock()
	s.backend.running.Go(func() { s.read(p) })
	return nil
}

// Call sends a request. The messages that belong to it are on the stream that is returned, which ends with the response.
func (s *Session) Call(ctx context.Context, request rpc.Message) (*stream.Log, error) {
	if err := s.ensure(ctx, request.Method); err != nil {
		return nil, err
	}
	return s.call(request)
}

func (s *Session) call(request rpc.Message) (*stream.Log, error) {
	id := string(request.ID)
	s.mutex.Lock()
	if s.ctx.Err() != nil {
		s.mutex.Unlock()
		return nil, ErrEnded
	}
	if request.Method == "initialize" {
		s.initialize = request
	}
	for _, other := range s.calls {
		if other.id == id {
			s.mutex.Unlock()
			return nil, ErrDuplicate
		}
	}
	s.last++
	c := &call{id: id, token: progressToken(request.Params), log: s.general}
	if !s.single {
		c.log = stream.NewLog("r"+strconv.Itoa(s.last), s.backend.config.StreamBytes)
	}
	s.calls = append(s.calls, c)
	p := s.process
	s.mutex.Unlock()
	if err := p.Send(request.Raw); err != nil {
		s.end(c)
		return nil, err
	}
	return c.log, nil
}

// Send sends a notification or a response. A notification that cancels a request ends its stream without a response.
func (s *Session) Send(ctx context.Context, message rpc.Message) error {
	if err := s.ensure(ctx, message.Method); err != nil {
		return err
	}
	if message.Method == "notifications/cancelled" {
		var params struct {
			RequestID json.RawMessage `json:"requestId"`
		}
		if json.Unmarshal(message.Params, &params) == nil {
			if c := s.find(func(c *call) bool { return c.id == string(params.RequestID) }); c != nil {
				s.end(c)
			}
		}
	}
	s.mutex.Lock()
	p := s.process
	s.mutex.Unlock()
	return p.Send(message.Raw)
}

// General returns the stream of messages that belong to no request.
func (s *Session) General() *stream.Log { return s.general }

// Stream returns a stream by name; nil if the session does not keep it any more.
func (s *Session) Stream(name string) *stream.Log {
	if name == GeneralStream {
		return s.general
	}
	if c := s.find(func(c *call) bool { return c.log.Name == name }); c != nil {
		return c.log
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, log := range s.ended {
		if log.Name == name {
			return log
		}
	}
	return nil
}

// IsEnded reports whether the session was closed, or its process has ended and is not replaced.
func (s *Session) IsEnded() bool {
	return s.ctx.Err() != nil || (!s.backend.config.Restart && s.isWithoutProcess())
}

// Close ends the session and its process, in the background.
func (s *Session) Close() {
	s.cancel(ErrEnded)
	s.mutex.Lock()
	p := s.process
	s.mutex.Unlock()
	if p != nil {
		go p.Stop()
	}
}

// read receives the messages of a process until its end.
func (s *Session) read(p *process.Process) {
	for line := range p.Lines() {
		message, err := rpc.Parse(line)
		if err != nil {
			s.backend.config.Metrics.Skipped.Inc()
			continue
		}
		s.receive(message)
	}
	<-p.Done()
	s.failCalls(fmt.Sprintf("the server has ended while it answered the request: %s", exitText(p.Err())))
	if s.ctx.Err() != nil || !s.backend.config.Restart {
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
func (s *Session) receive(message rpc.Message) {
	if message.Kind == rpc.Response {
		c := s.find(func(c *call) bool { return c.id == string(message.ID) })
		if c == nil {
			return // of a request that was cancelled, or that nobody has sent
		}
		_ = c.log.Add(s.ctx, message.Raw)
		s.end(c)
		return
	}
	_ = s.streamOf(message).Add(s.ctx, message.Raw)
}

// streamOf returns the stream of a request or a notification of the server. On stdio, only a progress notification says to which request it belongs. The
// others belong to the latest request in progress, if there is one and if they are not about the server as a whole.
func (s *Session) streamOf(message rpc.Message) *stream.Log {
	if token := progressTokenOf(message); token != "" {
		if c := s.find(func(c *call) bool { return c.token == token }); c != nil {
			return c.log
		}
	}
	if isGeneral(message.Method) && s.general.HasReader() {
		return s.general
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := len(s.calls) - 1; i >= 0; i-- {
		if s.calls[i].log.HasReader() {
			return s.calls[i].log
		}
	}
	return s.general
}

func (s *Session) find(is func(*call) bool) *call {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, c := range s.calls {
		if is(c) {
			return c
		}
	}
	return nil
}

// end ends a call and its stream.
func (s *Session) end(c *call) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := range s.calls {
		if s.calls[i] == c {
			s.calls = append(s.calls[:i], s.calls[i+1:]...)
			break
		}
	}
	if c.log == s.general {
		return
	}
	c.log.Close()
	s.ended = append(s.ended, c.log)
	if len(s.ended) > mostEnded {
		s.ended = s.ended[1:]
	}
}

// failCalls answers all requests in progress with an error.
func (s *Session) failCalls(text string) {
	s.mutex.Lock()
	calls := append([]*call(nil), s.calls...)
	s.mutex.Unlock()
	for _, c := range calls {
		_ = c.log.Add(context.WithoutCancel(s.ctx), rpc.Error(json.RawMessage(c.id), rpc.Unavailable, text, nil))
		s.end(c)
	}
}
