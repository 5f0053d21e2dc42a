package chart

import (
	"fmt"
	"testing"

	"mcpserver-operator/tests/cluster"
)

// TestNamespaces verifies that with the value namespaces the operator can patch StatefulSets only in these namespaces, and that its
// permissions suffice.
func TestNamespaces(t *testing.T) {
	watched, other := newNamespace(t), newNamespace(t)
	mark := auditMark(t)
	helmInstall(t, theChart(t), fmt.Sprintf(`{namespaces: [%s]}`, watched))
	startOperator(t, "1.0.0")
	const manifest = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", command: [server], replicas: 2, permissionProfile: {type: builtin, name: none}}
`
	kubectlApply(t, other, manifest)
	kubectlApply(t, watched, manifest)
	isReady(t, watched)

	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	for _, request := range requests {
		if request.Denied {
			t.Errorf("missing permission: %s", request)
		}
		if request.Namespace == other {
			t.Errorf("request outside the namespaces: %s", request)
		}
	}
	mayPatch(t, cluster.OperatorNamespace, map[string]bool{watched: true, other: false, cluster.OperatorNamespace: false})
}
