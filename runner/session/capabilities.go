package session

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Capabilities are the capabilities of a client that decide what the server may ask it, as a set of bits. Experimental capabilities, and those of
// later protocol versions, are not kept.
type Capabilities uint32

// known are the capabilities that a session id can carry. Their order must not change: it is that of the bits.
var known = []string{
	"roots", "roots.listChanged", "sampling", "sampling.tools", "sampling.context", "elicitation", "elicitation.form", "elicitation.url",
	"tasks", "tasks.list", "tasks.cancel", "tasks.requests", "tasks.requests.sampling", "tasks.requests.sampling.createMessage",
	"tasks.requests.elicitation", "tasks.requests.elicitation.create",
}

// CapabilitiesOf reads the member capabilities of the parameters of the request initialize.
func CapabilitiesOf(raw json.RawMessage) Capabilities {
	var set Capabilities
	for bit, path := range known {
		value, found := raw, true
		for name := range strings.SplitSeq(path, ".") {
			var members map[string]json.RawMessage
			if json.Unmarshal(value, &members) != nil {
				found = false
				break
			}
			if value, found = members[name]; !found {
				break
			}
		}
		if found && string(value) != "null" && string(value) != "false" {
			set |= 1 << bit
		}
	}
	return set
}

// JSON returns the capabilities as the member capabilities of the parameters of the request initialize.
func (c Capabilities) JSON() (json.RawMessage, error) {
	root := map[string]any{}
	for bit, path := range known {
		if c&(1<<bit) == 0 {
			continue
		}
		at, names := root, strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			next, isObject := at[name].(map[string]any)
			if !isObject {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		if last := names[len(names)-1]; last == "listChanged" {
			at[last] = true
		} else if _, found := at[last]; !found {
			at[last] = map[string]any{}
		}
	}
	raw, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("encoding capabilities: %w", err)
	}
	return raw, nil
}
