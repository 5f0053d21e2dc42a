// Package modern serves the protocol versions without sessions, from 2026-07-28.
package modern

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/metrics"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stdio"
	"mcpserver-operator/runner/stream"
)

// versionMember is the member of _meta with the protocol version of a request.
const versionMember = "io.modelcontextprotocol/protocolVersion"

// The headers that repeat parts of the body, so that gateways need not read the body.
const (
	methodHeader = "Mcp-Method"
	nameHeader   = "Mcp-Name"
)

// hold is how long the header of a response waits for the first message. The status of a response depends on the code of an error, and a stream has
// status 200: the time is long, so that also a busy server gives its errors the right status.
const hold = time.Second

// removed are the methods of the versions with sessions. A shared process must not receive them: they change the state of the process.
var removed = []string{"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}

// Is reports whether a message belongs to a version without sessions. It does if its header or its body says so.
func Is(header string, message rpc.Message) bool {
	if header >= rpc.Modern || message.Method == "server/discover" {
		return true
	}
	version, _ := rpc.GetString(message.Params, "_meta", versionMember)
	return version >= rpc.Modern
}

// Front is the HTTP handler.
type Front struct {
	Shared *stdio.Shared
	Limits limits.Limits
	// Era says which versions the server supports.
	Era *Era
	Log *slog.Logger

	tools tools
}

// Post serves the message of a POST.
func (f *Front) Post(w http.ResponseWriter, r *http.Request, messages []rpc.Message, isBatch bool) {
	message := messages[0]
	if isBatch || message.Kind == rpc.Response {
		legacy.Refuse(w, http.StatusBadRequest, nil, rpc.InvalidRequest, "the body must be one request or notification", nil)
		return
	}
	supported, err := f.Era.Versions(r.Context())
	if err != nil {
		legacy.Refuse(w, http.StatusServiceUnavailable, message.ID, rpc.Unavailable, err.Error()+": try again", nil)
		return
	}
	if len(supported) == 0 { // the client falls back to a version with sessions
		version := r.Header.Get(legacy.VersionHeader)
		if inBody, found := rpc.GetString(message.Params, "_meta", versionMember); found {
			version = inBody
		}
		legacy.RefuseVersion(w, message.ID, version, rpc.Legacy[1:])
		return
	}
	if message.Kind == rpc.Notification { // the only one is notifications/cancelled, which the end of the connection replaces
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if refused := f.check(r, message, supported); refused != nil {
		if refused.code == rpc.UnsupportedVersion {
			legacy.RefuseVersion(w, message.ID, r.Header.Get(legacy.VersionHeader), append(slices.Clone(supported), rpc.Legacy[1:]...))
			return
		}
		legacy.Refuse(w, refused.status, message.ID, refused.code, refused.text, nil)
		return
	}
	call, err := f.Shared.Call(message)
	if err != nil {
		status := legacy.StatusOf(err)
		if status == http.StatusBadGateway {
			f.Log.Warn("a request cannot be served", "error", err)
		}
		legacy.Refuse(w, status, message.ID, rpc.Unavailable, err.Error(), nil)
		return
	}
	defer call.Cancel() // no effect after the response
	f.answer(w, r, call.Reader)
}

// refusal is why a request is refused.
type refusal struct {
	status int
	code   rpc.Code
	text   string
}

func badRequest(code rpc.Code, format string, values ...any) *refusal {
	return &refusal{http.StatusBadRequest, code, fmt.Sprintf(format, values...)}
}

// check compares the headers of a request with its body.
func (f *Front) check(r *http.Request, message rpc.Message, supported []string) *refusal {
	if !limits.Accepts(r, "application/json") || !limits.Accepts(r, "text/event-stream") {
		return &refusal{http.StatusNotAcceptable, rpc.InvalidRequest, "the header Accept must contain application/json and text/event-stream"}
	}
	header := r.Header.Get(legacy.VersionHeader)
	version, inBody := rpc.GetString(message.Params, "_meta", versionMember)
	switch {
	case header == "":
		return badRequest(rpc.HeaderMismatch, "the header MCP-Protocol-Version is missing")
	case !inBody:
		return badRequest(rpc.InvalidParams, "the member %s of _meta is missing", versionMember)
	case header != version:
		return badRequest(rpc.HeaderMismatch, "the header MCP-Protocol-Version is %q, the request says %q", header, version)
	case !slices.Contains(supported, version):
		return badRequest(rpc.UnsupportedVersion, "")
	}
	if method := r.Header.Get(methodHeader); method != message.Method {
		return badRequest(rpc.HeaderMismatch, "the header Mcp-Method is %q, the method is %q", method, message.Method)
	}
	if slices.Contains(removed, message.Method) {
		return &refusal{http.StatusNotFound, rpc.MethodNotFound, fmt.Sprintf("the method %q does not exist in %s", message.Method, version)}
	}
	if member, isNamed := nameMembers[message.Method]; isNamed {
		inHeader, isValid := decode(r.Header.Get(nameHeader))
		name, found := rpc.GetString(message.Params, member)
		switch {
		case !found:
			return badRequest(rpc.InvalidParams, "the member %s of the parameters is missing", member)
		case !isValid || inHeader != name:
			return badRequest(rpc.HeaderMismatch, "the header Mcp-Name is %q, the request says %q", r.Header.Get(nameHeader), name)
		}
		if message.Method == "tools/call" {
			return f.tools.check(r, f.Shared, name, message.Params)
		}
	}
	return nil
}

// nameMembers are the methods that require the header Mcp-Name, and the parameters that it repeats.
var nameMembers = map[string]string{"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

// decode returns the value of a header, which may be encoded.
func decode(value string) (decoded string, isValid bool) {
	encoded, isEncoded := strings.CutPrefix(value, "=?base64?")
	encoded, hasEnd := strings.CutSuffix(encoded, "?=")
	if !isEncoded || !hasEnd {
		return value, true
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return string(raw), err == nil
}

// statusOf returns the HTTP status of a response.
func statusOf(response json.RawMessage) int {
	switch string(rpc.Get(response, "error", "code")) {
	case "-32601":
		return http.StatusNotFound
	case "-32602", "-32020", "-32021", "-32022":
		return http.StatusBadRequest
	default:
		return http.StatusOK
	}
}

// answer writes the stream of a request. If the response comes first and soon, it is the body, without a stream.
func (f *Front) answer(w http.ResponseWriter, r *http.Request, reader *stream.Reader) {
	request := metrics.RequestOf(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), hold)
	events, isEnd, _ := reader.Next(ctx) // without a message until then, a stream begins
	cancel()
	if r.Context().Err() != nil {
		request.SetOutcome(metrics.Disconnected)
		return
	}
	if isEnd && len(events) == 1 {
		status := statusOf(events[0].Data)
		if status != http.StatusOK || !limits.PrefersStream(r) {
			request.SetAnswer(events[0].Data)
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(f.Limits.Write)) // not supported by recorders in tests
			w.WriteHeader(status)
			_, _ = w.Write(events[0].Data) // else the client is gone
			return
		}
	}
	writer, err := stream.NewWriter(w, f.Limits.Write)
	for err == nil {
		for _, event := range events {
			if err = writer.Event("", "message", event.Data); err != nil {
				break
			}
		}
		if err == nil {
			err = writer.Flush()
		}
		if isEnd || err != nil {
			break
		}
		events, isEnd, err = writer.Await(r.Context(), reader, f.Limits.KeepAlive)
	}
	switch {
	case err != nil:
		request.SetOutcome(metrics.Disconnected)
	case len(events) > 0:
		request.SetAnswer(events[len(events)-1].Data)
	}
}
