package observe

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// TestAChildIsAsAskedForWithOneConfiguration verifies that the record of a matching child is valid only for one apply configuration of one MCPServer.
// Otherwise, a new field of the MCPServer would be reported as removed from the child.
func TestAChildIsAsAskedForWithOneConfiguration(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	another := server.DeepCopy()
	another.UID = "another"
	set := Child{KindStatefulSet, "web"}

	var seen Seen
	if seen.WasAsAskedFor(server, set, "1", 7) || seen.WasThere(server, set) {
		t.Error("recorded before the child was seen")
	}
	seen.Created(server, set)
	if seen.WasAsAskedFor(server, set, "1", 7) || !seen.WasThere(server, set) {
		t.Error("after its creation, a child must count as existing, and not as matching")
	}
	seen.AsAskedFor(server, set, "1", 7)
	if !seen.WasAsAskedFor(server, set, "1", 7) {
		t.Error("a matching child is not recorded")
	}
	if seen.WasAsAskedFor(server, set, "1", 8) {
		t.Error("the record counts for another apply configuration")
	}
	if seen.WasAsAskedFor(server, set, "2", 7) {
		t.Error("the record counts for a recreated child")
	}
	if seen.WasAsAskedFor(another, set, "1", 7) || seen.WasThere(another, set) {
		t.Error("the record counts for a new MCPServer of the same name")
	}
	seen.forget(client.ObjectKeyFromObject(server))
	if seen.WasThere(server, set) {
		t.Error("the record counts for a deleted MCPServer")
	}
}
