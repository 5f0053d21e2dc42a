package observe

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// TestAValueEndsWithItsMCPServer verifies that another MCPServer with the same name does not get it, and that nothing is left of a deleted one.
func TestAValueEndsWithItsMCPServer(t *testing.T) {
	server := func(uid types.UID) *v1beta1.MCPServer {
		return &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: uid}}
	}
	var values PerServer[string]
	if value, found := values.Get(server("a")); found || value != "" {
		t.Errorf("got %q before the first value", value)
	}
	values.Set(server("a"), "first")
	if value, found := values.Get(server("a")); !found || value != "first" {
		t.Errorf("got %q", value)
	}
	if value, found := values.Get(server("b")); found || value != "" {
		t.Errorf("another MCPServer gets %q", value)
	}
	values.Set(server("b"), "second")
	if value, found := values.Get(server("a")); found || value != "" {
		t.Errorf("the former MCPServer gets %q", value)
	}
	values.Forget(client.ObjectKeyFromObject(server("b")))
	if len(values.values) > 0 {
		t.Errorf("%v are left", values.values)
	}
}
