package observe

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// TestAChildIsAsAskedForInOneGeneration verifies that the record of a matching child is valid only for one generation of one MCPServer.
// Otherwise, a new field of the MCPServer would be reported as removed from the child.
func TestAChildIsAsAskedForInOneGeneration(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	changed, another := server.DeepCopy(), server.DeepCopy()
	changed.Generation, another.UID = 2, "another"
	set := Child{KindStatefulSet, "web"}

	var seen Seen
	if seen.WasAsAskedFor(server, set, "1") || seen.WasThere(server, set) {
		t.Error("recorded before the child was seen")
	}
	seen.Created(server, set)
	if seen.WasAsAskedFor(server, set, "1") || !seen.WasThere(server, set) {
		t.Error("after its creation, a child must count as existing, and not as matching")
	}
	seen.AsAskedFor(server, set, "1")
	if !seen.WasAsAskedFor(server, set, "1") {
		t.Error("a matching child is not recorded")
	}
	if seen.WasAsAskedFor(changed, set, "1") {
		t.Error("the record counts for another generation")
	}
	if seen.WasAsAskedFor(server, set, "2") {
		t.Error("the record counts for a recreated child")
	}
	if seen.WasAsAskedFor(another, set, "1") || seen.WasThere(another, set) {
		t.Error("the record counts for a new MCPServer of the same name")
	}
	seen.forget(client.ObjectKeyFromObject(server))
	if seen.WasThere(server, set) {
		t.Error("the record counts for a deleted MCPServer")
	}
}
