package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mcpserver-operator/runner/process"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/session"
)

// patience is how long a server that has answered initialize may take to answer the question before it.
const patience = 2 * time.Second

const discoverID = `"mcp-runner-discover"`

// Meta returns the member _meta of a request of the runner in a version without sessions.
func Meta() map[string]any {
	return map[string]any{
		"io.modelcontextprotocol/protocolVersion": rpc.Modern, "io.modelcontextprotocol/clientInfo": session.ClientInfo,
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
	}
}

// Probe asks the server in a process that is thrown away which versions without sessions it supports; none if it needs sessions. It fails if the server
// cannot be used. A server with sessions may ignore the question, or end. So initialize follows at once, and if the server ends, it is asked again
// with initialize alone.
func (b *Backend) Probe(ctx context.Context) (versions []string, err error) {
	discover, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": json.RawMessage(discoverID), "method": "server/discover", "params": map[string]any{"_meta": Meta()},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding server/discover: %w", err)
	}
	initialize, err := initializeFor(session.Record{Version: rpc.Polling})
	if err != nil {
		return nil, err
	}
	versions, err = b.probe(ctx, discover, initialize.Raw)
	if errors.Is(err, errProbeEnded) {
		versions, err = b.probe(ctx, initialize.Raw)
	}
	return versions, err
}

var errProbeEnded = errors.New("the server has ended before it answered")

func (b *Backend) probe(ctx context.Context, messages ...[]byte) (versions []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.StartTimeout)
	defer cancel()
	p, err := b.take("probe", "probe")
	if err != nil {
		return nil, err
	}
	defer b.running.Go(p.Stop)
	for _, message := range messages {
		if err := p.Send(message); errors.Is(err, process.ErrEnded) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	lines := make(chan []byte)
	b.running.Go(func() {
		defer close(lines)
		for line := p.Next(); line != nil; line = p.Next() {
			select {
			case lines <- line:
			case <-ctx.Done(): // the answers are known
			}
		}
	})
	isInitialized := false
	var enough <-chan time.Time
	for {
		select {
		case line, isOpen := <-lines:
			if !isOpen {
				<-p.Done()
				if isInitialized {
					return nil, nil
				}
				return nil, fmt.Errorf("%w: %s", errProbeEnded, exitText(p.Err()))
			}
			message, err := rpc.Parse(line)
			switch {
			case err != nil:
				b.config.Metrics.Skipped.Inc()
			case message.Kind != rpc.Response:
			case string(message.ID) == discoverID && message.Result != nil:
				return modernOf(rpc.Get(message.Result, "supportedVersions")), nil
			case string(message.ID) == discoverID:
				if versions := modernOf(rpc.Get(message.Raw, "error", "data", "supported")); len(versions) > 0 || isInitialized {
					return versions, nil
				}
			case string(message.ID) == restartID:
				isInitialized = true
				if len(messages) == 1 {
					return nil, nil
				}
				timer := time.NewTimer(patience)
				defer timer.Stop()
				enough = timer.C
			}
		case <-enough:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("asking the server for its protocol versions: %w", context.Cause(ctx))
		}
	}
}

// modernOf returns the versions without sessions in a JSON array.
func modernOf(raw json.RawMessage) (modern []string) {
	var versions []string
	_ = json.Unmarshal(raw, &versions) // nil if it is something else
	for _, version := range versions {
		if version >= rpc.Modern {
			modern = append(modern, version)
		}
	}
	return modern
}
