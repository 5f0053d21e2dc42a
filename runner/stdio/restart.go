package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// restartID is the id of the request initialize that the runner sends. It is answered before any request of the client is sent.
const restartID = session.InitializeID

// initializeFor returns the request initialize of a client of which only the session id is known.
func initializeFor(record session.Record) (rpc.Message, error) {
	raw, err := session.Initialize(record)
	if err != nil {
		return rpc.Message{}, err
	}
	return rpc.Parse(raw)
}

// restart starts a process and repeats the request initialize.
func (s *Session) restart(ctx context.Context, initialize rpc.Message) (*process.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.config.StartTimeout)
	defer cancel()
	p, err := s.begin("recreated", false)
	if err != nil {
		return nil, err
	}
	if err := s.initializeAgain(ctx, p, initialize); err != nil {
		s.backend.running.Go(p.Stop)
		return nil, err
	}
	s.mutex.Lock()
	s.isReady = true
	s.mutex.Unlock()
	s.backend.config.Metrics.Recreated.Inc()
	return p, nil
}

func (s *Session) initializeAgain(ctx context.Context, p *process.Process, initialize rpc.Message) error {
	initialize.Raw, initialize.ID = rpc.WithID(initialize.Raw, json.RawMessage(restartID)), json.RawMessage(restartID)
	answers := make(chan rpc.Message, 1)
	s.mutex.Lock()
	s.answers = answers
	s.mutex.Unlock()
	if err := p.Send(initialize.Raw); err != nil {
		return err
	}
	select {
	case answer := <-answers:
		if answer.Result == nil {
			return errors.New("the server has refused to be initialized again")
		}
	case <-p.Done():
		return fmt.Errorf("the server has ended: %s", exitText(p.Err()))
	case <-ctx.Done():
		return fmt.Errorf("waiting for the answer to initialize: %w", context.Cause(ctx))
	}
	return p.Send([]byte(session.Initialized))
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

// ensure returns the process of the session. If it has ended, it starts another one and initializes it as the client has initialized the first.
func (s *Session) ensure(ctx context.Context, method string) (*process.Process, error) {
	s.mutex.Lock()
	p := s.running()
	s.mutex.Unlock()
	if s.ctx.Err() != nil {
		return nil, session.ErrEnded
	}
	if p != nil {
		return p, nil
	}
	if !s.canRestart() || method == "initialize" {
		return nil, session.ErrEnded
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
		return nil, session.ErrEnded
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
