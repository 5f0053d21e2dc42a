package plan

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// BenchmarkPlan compares the fields that the operator owns in a StatefulSet with its apply configuration, and finds no difference. After a
// restart or a change, this is most of the cost of a pass that has nothing to write.
func BenchmarkPlan(b *testing.B) {
	benchmarkPlan(b, func(memory *Memory, server *v1beta1.MCPServer) { memory.Forget(client.ObjectKeyFromObject(server)) })
}

// BenchmarkPlanConverged does the same when neither the StatefulSet nor its apply configuration has changed since the last comparison.
func BenchmarkPlanConverged(b *testing.B) {
	benchmarkPlan(b, func(*Memory, *v1beta1.MCPServer) {})
}

func benchmarkPlan(b *testing.B, before func(*Memory, *v1beta1.MCPServer)) {
	b.Helper()
	server, set := appliedStatefulSet(b)
	s, err := (&observe.Snapshot{Server: server, Now: metav1.NewTime(start)}).With(set)
	if err != nil {
		b.Fatal(err)
	}
	memory := NewMemory()
	b.ReportAllocs()
	for b.Loop() {
		before(memory, server)
		p := Make(s, scale.Decide(s.ScaleInput()), ipv4, memory)
		step := p.StatefulSet()
		if step.Action != Keep {
			b.Fatalf("%s: %s", step.Action, step.Reason)
		}
		memory.Remember(s, Results{{Step: *step, Outcome: Nothing}})
	}
}

// appliedStatefulSet returns an MCPServer and its applied StatefulSet.
func appliedStatefulSet(b testing.TB) (*v1beta1.MCPServer, *appsv1.StatefulSet) {
	b.Helper()
	server := &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"},
		Spec:       v1beta1.MCPServerSpec{Image: "registry.example/server:1", Args: []string{"--verbose"}},
	}
	return server, applied(b, server)
}

// applied returns the applied StatefulSet of an MCPServer.
func applied(b testing.TB, server *v1beta1.MCPServer) *appsv1.StatefulSet {
	b.Helper()
	return appliedIn(b, server, applyconfigs.Cluster{}, nil)
}

// appliedIn returns the applied StatefulSet of an MCPServer in a cluster, with the command of its image.
func appliedIn(b testing.TB, server *v1beta1.MCPServer, cluster applyconfigs.Cluster, image *v1beta1.ImageStatus) *appsv1.StatefulSet {
	b.Helper()
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		b.Fatal(err)
	}
	want, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, cluster, image)
	if err != nil {
		b.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		b.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithReturnManagedFields().Build()
	if err := c.Apply(b.Context(), want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership); err != nil {
		b.Fatal(err)
	}
	set := &appsv1.StatefulSet{}
	if err := c.Get(b.Context(), client.ObjectKey{Namespace: "team", Name: "web"}, set); err != nil {
		b.Fatal(err)
	}
	return set
}
