package stdio

import (
	"encoding/json"
	"strings"

	"mcpserver-operator/runner/rpc"
)

// progressToken returns the token by which a request asks for progress, as it was written; empty if it does not.
func progressToken(params json.RawMessage) string {
	var fields struct {
		Meta struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
	if len(params) == 0 || json.Unmarshal(params, &fields) != nil {
		return ""
	}
	return string(fields.Meta.Token)
}

// progressTokenOf returns the token in a progress notification; empty if it is another message.
func progressTokenOf(message rpc.Message) string {
	if message.Method != "notifications/progress" {
		return ""
	}
	var params struct {
		Token json.RawMessage `json:"progressToken"`
	}
	if json.Unmarshal(message.Params, &params) != nil {
		return ""
	}
	return string(params.Token)
}

// isGeneral reports whether a notification is about the server, not about a request.
func isGeneral(method string) bool {
	return strings.HasSuffix(method, "/list_changed") || method == "notifications/resources/updated"
}
