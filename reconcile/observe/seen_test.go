package observe

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// TestAChildIsAsAskedForInOneGeneration: a new field of an MCPServer is not reported as removed.
func TestAChildIsAsAskedForInOneGeneration(t *testing.T) {
	server := &v1alpha1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	changed, another := server.DeepCopy(), server.DeepCopy()
	changed.Generation, another.UID = 2, "another"
	set := Child{KindStatefulSet, "web"}

	var seen Seen
	if seen.WasAsAskedFor(server, set, "1") || seen.WasThere(server, set) {
		t.Error("seen before it was")
	}
	seen.Created(server, set)
	if seen.WasAsAskedFor(server, set, "1") || !seen.WasThere(server, set) {
		t.Error("what was created was there, and no more is known")
	}
	seen.AsAskedFor(server, set, "1")
	if !seen.WasAsAskedFor(server, set, "1") {
		t.Error("not seen after it was")
	}
	if seen.WasAsAskedFor(changed, set, "1") {
		t.Error("seen for another generation")
	}
	if seen.WasAsAskedFor(server, set, "2") {
		t.Error("seen for a child that was created anew")
	}
	if seen.WasAsAskedFor(another, set, "1") || seen.WasThere(another, set) {
		t.Error("seen for another MCPServer of the name, to which the child was given")
	}
	seen.forget(client.ObjectKeyFromObject(server))
	if seen.WasThere(server, set) {
		t.Error("seen for an MCPServer that is gone")
	}
}
