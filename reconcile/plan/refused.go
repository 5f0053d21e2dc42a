package plan

import (
	"fmt"
	"strings"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/observe"
)

// refused returns the only step of an MCPServer that has fields which protect the server and which this operator does not support. The API
// server refuses them, but keeps those that were stored when another operator's CRD was installed. That operator's proxy may still protect
// the server, and a change of the Service would bypass the proxy.
func (m *maker) refused() (Step, bool) {
	names := m.Server.Spec.RefusedNames()
	if len(names) == 0 {
		return Step{}, false
	}
	step := Step{
		Child: observe.Child{Kind: observe.KindStatefulSet, Name: applyconfigs.StatefulSetName(m.Server.Name)}, Action: Invalid,
		Reason: "the MCPServer asks for protection that this operator does not give",
		Err: &InvalidSpecError{fmt.Errorf("the MCPServer was stored with spec.%s, which protects the server. This operator does not support it, "+
			"and creates and changes nothing for this MCPServer, because the server would run without this protection. Remove it, and protect "+
			"the server in another way, for example by a gateway in front of Service %q",
			strings.Join(names, ", spec."), applyconfigs.ClientServiceName(m.Server.Name))},
	}
	if set := m.Children.StatefulSet; set != nil {
		step.Live = set
	}
	return step, true
}
