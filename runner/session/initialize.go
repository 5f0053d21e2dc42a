package session

import (
	"encoding/json"
	"fmt"
	"slices"

	"mcpserver-operator/runner/rpc"
)

// InitializeID is the id of the request initialize that the runner sends, in JSON.
const InitializeID = `"mcp-runner-initialize"`

// Initialized is the notification that follows the answer to Initialize.
const Initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

// ClientInfo is how the runner introduces itself to a server.
var ClientInfo = map[string]string{"name": "mcp-runner", "version": "1"}

// Initialize returns the request initialize with which a session is started again. Of its client, the runner knows only what the session id carries.
func Initialize(record Record) (json.RawMessage, error) {
	capabilities, err := record.Capabilities.JSON()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": json.RawMessage(InitializeID), "method": "initialize",
		"params": map[string]any{
			"protocolVersion": KnownVersion(record.Version), "capabilities": capabilities, "clientInfo": ClientInfo,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the request initialize: %w", err)
	}
	return raw, nil
}

// KnownVersion returns a protocol version, or the last one with sessions if a session id has no place for it.
func KnownVersion(version string) string {
	if !slices.Contains(rpc.Legacy, version) {
		return rpc.Polling
	}
	return version
}
