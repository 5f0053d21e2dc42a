// Package modern serves the protocol versions without sessions, from 2026-07-28.
package modern

import (
	"net/http"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
)

// The members of _meta that a request has.
const (
	versionMember      = "io.modelcontextprotocol/protocolVersion"
	capabilitiesMember = "io.modelcontextprotocol/clientCapabilities"
	clientMember       = "io.modelcontextprotocol/clientInfo"
	subscriptionMember = "io.modelcontextprotocol/subscriptionId"
)

// Is reports whether a message belongs to a version without sessions. It does if its header or its body says so.
func Is(header string, message rpc.Message) bool {
	if header >= rpc.Modern || message.Method == "server/discover" {
		return true
	}
	version, _ := rpc.GetString(message.Params, "_meta", versionMember)
	return version >= rpc.Modern
}

// Front is the HTTP handler.
type Front struct{}

// Post serves the message of a POST.
func (f *Front) Post(w http.ResponseWriter, r *http.Request, messages []rpc.Message, _ bool) {
	legacy.RefuseVersion(w, messages[0].ID, r.Header.Get(legacy.VersionHeader), rpc.Legacy[1:])
}
