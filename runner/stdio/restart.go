package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// restartID is the id of the request initialize that the runner sends. It is answered before any request of the client is sent.
const restartID = `"mcp-runner-initialize"`

// initializeFor returns the request initialize of a client of which only the session id is known.
func initializeFor(record session.Record) (rpc.Message, error) {
	capabilities, err := record.Capabilities.JSON()
	if err != nil {
		return rpc.Message{}, err
	}
	version := record.Version
	if version == "" {
		version = rpc.Legacy[len(rpc.Legacy)-1]
	}
	params, err := json.Marshal(map[string]any{
		"protocolVersion": version, "capabilities": capabilities, "clientInfo": map[string]string{"name": "mcp-runner", "version": "1"},
	})
	if err != nil {
		return rpc.Message{}, fmt.Errorf("encoding the request initialize: %w", err)
	}
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": json.RawMessage(params)})
	if err != nil {
		return rpc.Message{}, fmt.Errorf("encoding the request initialize: %w", err)
	}
	return rpc.Parse(raw)
}

// ensure makes sure that the session has a process. The request initialize cannot be repeated on a new process: the client sends it.
func (s *Session) ensure(ctx context.Context, method string) error {
	if s.ctx.Err() != nil {
		return ErrEnded
	}
	if !s.isWithoutProcess() {
		return nil
	}
	s.mutex.Lock()
	canRestart := s.backend.config.Restart && s.initialize.Raw != nil && method != "initialize"
	s.mutex.Unlock()
	if !canRestart {
		return ErrEnded
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	if !s.isWithoutProcess() {
		return nil // another request has started it
	}
	return s.restart(ctx)
}

func (s *Session) isWithoutProcess() bool {
	s.mutex.Lock()
	p := s.process
	s.mutex.Unlock()
	if p == nil {
		return true
	}
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// restart starts a process and repeats the request initialize.
func (s *Session) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.backend.config.StartTimeout)
	defer cancel()
	if err := s.begin("recreated"); err != nil {
		return err
	}
	s.mutex.Lock()
	original := s.initialize
	s.mutex.Unlock()
	raw := rpc.WithID(original.Raw, json.RawMessage(restartID))
	again := original
	again.Raw, again.ID = raw, json.RawMessage(restartID)
	log, err := s.call(again)
	if err != nil {
		return err
	}
	s.mutex.Lock()
	s.initialize = original
	s.mutex.Unlock()
	answer, err := Answer(ctx, log)
	if err != nil {
		return fmt.Errorf("waiting for the answer to initialize: %w", err)
	}
	if answer.Result == nil {
		return errors.New("the server has refused to be initialized again")
	}
	initialized := rpc.Message{Kind: rpc.Notification, Raw: json.RawMessage(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)}
	s.mutex.Lock()
	p := s.process
	s.mutex.Unlock()
	if err := p.Send(initialized.Raw); err != nil {
		return err
	}
	s.backend.config.Metrics.Recreated.Inc()
	return nil
}
