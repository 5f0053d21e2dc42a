// Package rpc is the JSON-RPC 2.0 envelope of MCP messages. It keeps each message as its sender wrote it, so that ids and members that the
// runner does not know pass through unchanged.
package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Kind is the kind of a message.
type Kind int

// The kinds of messages. A request expects a response with the same id, a notification expects nothing.
const (
	Request Kind = iota
	Notification
	Response
)

// Message is one JSON-RPC message.
type Message struct {
	// Raw is the complete message, without line breaks.
	Raw json.RawMessage
	// Kind is the kind of the message.
	Kind Kind
	// ID is the id of a request or a response, as it was written; nil for a notification.
	ID json.RawMessage
	// Method is the method of a request or a notification.
	Method string
	// Params are the parameters of a request or a notification; nil if there are none.
	Params json.RawMessage
	// Result is the result of a response; nil if the response is an error.
	Result json.RawMessage
}

// ErrNotRPC is wrapped by the errors of Parse for JSON that is not a JSON-RPC 2.0 message.
var ErrNotRPC = errors.New("not a JSON-RPC 2.0 message")

var errNotJSON = errors.New("the message is not valid JSON")

// Parse parses one message. It fails if raw is not JSON, or with ErrNotRPC if it is not a JSON-RPC 2.0 message. A batch is not a message.
func Parse(raw []byte) (Message, error) {
	if !json.Valid(raw) {
		return Message{}, errNotJSON
	}
	compact, err := oneLine(raw)
	if err != nil {
		return Message{}, err
	}
	message := Message{Raw: compact}
	var version, method, failure json.RawMessage
	for name, at := range members(compact, skipSpace(compact, 0)) {
		value := compact[at.start:at.end]
		switch name {
		case "jsonrpc":
			version = value
		case "id":
			message.ID = value
		case "method":
			method = value
		case "params":
			message.Params = value
		case "result":
			message.Result = value
		case "error":
			failure = value
		}
	}
	if string(version) != `"2.0"` {
		return Message{}, fmt.Errorf("%w: the member jsonrpc must be \"2.0\"", ErrNotRPC)
	}
	hasID := len(message.ID) > 0 && string(message.ID) != "null"
	switch {
	case len(method) > 0 && method[0] != '"':
		return Message{}, fmt.Errorf("%w: the method must be a string", ErrNotRPC)
	case len(method) > 0 && hasID:
		if !isID(message.ID) {
			return Message{}, fmt.Errorf("%w: the id must be a string or a number", ErrNotRPC)
		}
		message.Kind, message.Method = Request, unquote(method)
	case len(method) > 0:
		message.Kind, message.Method, message.ID = Notification, unquote(method), nil
	case message.Result != nil || failure != nil:
		message.Kind = Response // an error about a request that could not be read has the id null
	default:
		return Message{}, fmt.Errorf("%w: it has neither a method nor a result nor an error", ErrNotRPC)
	}
	return message, nil
}

// ParseBody parses the body of an HTTP request: a message, or a batch of messages, which the protocol version 2025-03-26 allows.
func ParseBody(body []byte) (messages []Message, isBatch bool, err error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '[' {
		message, err := Parse(body)
		return []Message{message}, false, err
	}
	var batch []json.RawMessage
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, true, fmt.Errorf("parsing JSON: %w", err)
	}
	if len(batch) == 0 {
		return nil, true, fmt.Errorf("%w: the batch is empty", ErrNotRPC)
	}
	for _, raw := range batch {
		message, err := Parse(raw)
		if err != nil {
			return nil, true, err
		}
		messages = append(messages, message)
	}
	return messages, true, nil
}

// isID reports whether raw is a string or a number.
func isID(raw json.RawMessage) bool {
	return raw[0] == '"' || raw[0] == '-' || (raw[0] >= '0' && raw[0] <= '9')
}

// oneLine returns JSON without line breaks. On stdio, a line is a message.
func oneLine(raw []byte) ([]byte, error) {
	if !bytes.ContainsAny(raw, "\r\n") {
		return bytes.Clone(raw), nil
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("parsing JSON: %w", err)
	}
	return out.Bytes(), nil
}

// WithID returns a message with another id. All other bytes stay.
func WithID(raw, id json.RawMessage) json.RawMessage { return Replace(raw, id, "id") }

// Key returns a text that is equal for two ids if they mean the same. A server may write an id in another form than the client.
func Key(id json.RawMessage) string {
	if len(id) > 0 && id[0] == '"' {
		return "s" + unquote(id)
	}
	if bytes.ContainsAny(id, ".eE") {
		if number, err := strconv.ParseFloat(string(id), 64); err == nil {
			return strconv.FormatFloat(number, 'f', -1, 64)
		}
	}
	return string(id)
}
