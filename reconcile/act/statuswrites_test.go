package act

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mcpserver-operator/crd/v1beta1"
)

// TestAPassOnAStatusFromBeforeAWriteIsRepeated verifies that a pass counts as stale until the cache contains the last status write.
func TestAPassOnAStatusFromBeforeAWriteIsRepeated(t *testing.T) {
	server := func(uid types.UID, version string) *v1beta1.MCPServer {
		return &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: uid, ResourceVersion: version}}
	}
	var writes statusWrites
	if writes.areAhead(server("a", "99")) {
		t.Error("stale without a write")
	}
	writes.remember(server("a", "100"))
	if !writes.areAhead(server("a", "99")) {
		t.Error("an older version does not count as stale")
	}
	if writes.areAhead(server("a", "100")) || len(writes.last) > 0 {
		t.Error("stale although the cache contains the write")
	}
	writes.remember(server("a", "100"))
	if writes.areAhead(server("b", "99")) {
		t.Error("stale for another MCPServer of the same name")
	}
	writes.remember(server("a", "100"))
	writes.forget(types.NamespacedName{Namespace: "team", Name: "web"})
	if len(writes.last) > 0 {
		t.Error("a deleted MCPServer is still in memory")
	}
}

// TestAPartOfAStatusIsWritten verifies that the record of the scale can be written after another client has removed the status. The schema
// rejects an empty phase.
func TestAPartOfAStatusIsWritten(t *testing.T) {
	got := statusConfiguration(&v1beta1.MCPServerStatus{Scale: &v1beta1.ScaleStatus{Replicas: 3}})
	if got.Phase != nil || got.Scale == nil || *got.Scale.Replicas != 3 {
		t.Errorf("got phase %v, scale %+v", got.Phase, got.Scale)
	}
}
