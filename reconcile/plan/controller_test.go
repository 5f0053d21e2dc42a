package plan

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheVersionInAnOwnerReference verifies that an owner reference of an earlier operator stays as it is: the operator may not change owner
// references of StatefulSets and Services, because it may not delete these objects.
func TestTheVersionInAnOwnerReference(t *testing.T) {
	refers := func(version string) func(*v1beta1.MCPServer, *appsv1.StatefulSet) {
		return func(_ *v1beta1.MCPServer, set *appsv1.StatefulSet) { set.OwnerReferences[0].APIVersion = version }
	}
	kept := planOf(converged(t, refers("toolhive.stacklok.dev/v1alpha1")), NewMemory())
	if step := kept.StatefulSet(); step.Action != Keep {
		t.Errorf("the version v1alpha1: %s, because %s", step.Action, step.Reason)
	}
	both := func(server *v1beta1.MCPServer, set *appsv1.StatefulSet) {
		refers("toolhive.stacklok.dev/v1alpha1")(server, set)
		server.Spec.Image = "registry.example/server:2"
	}
	for _, row := range []struct {
		name   string
		change func(*v1beta1.MCPServer, *appsv1.StatefulSet)
		want   string
	}{
		{"the version v1alpha1, and another image", both, "toolhive.stacklok.dev/v1alpha1"},
		{"a version that is not served", refers("toolhive.stacklok.dev/v1"), "toolhive.stacklok.dev/v1beta1"},
	} {
		p := planOf(converged(t, row.change), NewMemory())
		step := p.StatefulSet()
		set, isSet := step.Want.(*appsv1ac.StatefulSetApplyConfiguration)
		if step.Action != Apply || !isSet || *set.OwnerReferences[0].APIVersion != row.want {
			t.Errorf("%s: %s with %+v, want an apply with %s", row.name, step.Action, step.Want, row.want)
		}
	}
}
