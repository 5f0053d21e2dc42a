package act

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"mcpserver-operator/crd/v1beta1"
)

// TestAGenerationIsConfirmedUntilSomebodyElseWrites: only the StatefulSet that this process has written last for this MCPServer proves that
// nobody has carried out a later generation.
func TestAGenerationIsConfirmedUntilSomebodyElseWrites(t *testing.T) {
	server := func(uid types.UID) *v1beta1.MCPServer {
		return &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: uid}}
	}
	set := func(uid types.UID, generation int64) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: uid, Generation: generation}}
	}
	var confirmed confirmedServers
	if confirmed.has(server("a"), set("s", 1)) {
		t.Error("after a start, nothing is confirmed")
	}
	confirmed.remember(server("a"), appsv1ac.StatefulSet("web", "team").WithUID("s").WithGeneration(3))
	for name, test := range map[string]struct {
		server *v1beta1.MCPServer
		set    *appsv1.StatefulSet
		want   bool
	}{
		"the written StatefulSet":            {server("a"), set("s", 3), true},
		"somebody has changed it":            {server("a"), set("s", 4), false},
		"the cache has an earlier version":   {server("a"), set("s", 2), false},
		"it was recreated":                   {server("a"), set("other", 3), false},
		"another MCPServer of the same name": {server("b"), set("s", 3), false},
	} {
		if got := confirmed.has(test.server, test.set); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	if confirmed.has(server("a"), nil) {
		t.Error("an absent StatefulSet proves nothing")
	}
	confirmed.forget(types.NamespacedName{Namespace: "team", Name: "web"})
	if confirmed.has(server("a"), set("s", 3)) {
		t.Error("a deleted MCPServer is still confirmed")
	}
}
