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

const initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

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
	return p.Send([]byte(initialized))
}
