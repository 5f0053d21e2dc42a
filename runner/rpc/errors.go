package rpc

import "encoding/json"

// Code is the code of a JSON-RPC error.
type Code int

// The codes that the runner returns. Those above -32100 and below -32000 are defined by MCP, the others by JSON-RPC.
const (
	ParseError     Code = -32700
	InvalidRequest Code = -32600
	MethodNotFound Code = -32601
	InvalidParams  Code = -32602
	InternalError  Code = -32603
	// Unavailable is the error of a request that the server behind the runner cannot answer.
	Unavailable Code = -32000
	// SessionNotFound is the error of a request with an unknown session id.
	SessionNotFound Code = -32001
	// HeaderMismatch is the error of a request whose headers differ from its body.
	HeaderMismatch Code = -32020
	// UnsupportedVersion is the error of a request in a protocol version that the server does not support. Its data has the supported versions.
	UnsupportedVersion Code = -32022
)

// Error returns a response with an error. The id is null if id is nil. Data is omitted if it is nil.
func Error(id json.RawMessage, code Code, message string, data any) json.RawMessage {
	type body struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}
	if id == nil {
		id = json.RawMessage("null")
	}
	raw, err := json.Marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   body            `json:"error"`
	}{"2.0", id, body{code, message, data}})
	if err != nil { // the id is not JSON
		return Error(nil, code, message, nil)
	}
	return raw
}
