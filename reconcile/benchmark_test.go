package reconcile

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// BenchmarkConverged compares what the operator owns in a StatefulSet with what it should be, and finds no difference:
// most of what a pass costs that has nothing to write after a restart or a change.
func BenchmarkConverged(b *testing.B) {
	benchmarkConverged(b, func(r *Reconciler, server *v1alpha1.MCPServer) { r.settled.forget(client.ObjectKeyFromObject(server)) })
}

// BenchmarkSettled does the same when neither the StatefulSet nor what it should be has changed since.
func BenchmarkSettled(b *testing.B) {
	benchmarkConverged(b, func(*Reconciler, *v1alpha1.MCPServer) {})
}

func benchmarkConverged(b *testing.B, before func(*Reconciler, *v1alpha1.MCPServer)) {
	b.Helper()
	server, set := appliedStatefulSet(b)
	fixed, err := applyconfigs.FixedBy(server, set)
	if err != nil {
		b.Fatal(err)
	}
	r, p := &Reconciler{}, &pass{server: server}
	b.ReportAllocs()
	for b.Loop() {
		before(r, server)
		want, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, applyconfigs.Cluster{})
		if err != nil {
			b.Fatal(err)
		}
		if wrote, err := converge(b.Context(), r, p, want, set, appsv1ac.ExtractStatefulSet); wrote || err != nil {
			b.Fatalf("wrote %v, %v", wrote, err)
		}
	}
}

// BenchmarkDecideScale decides the scale of a StatefulSet that is there, from what its managedFields say.
func BenchmarkDecideScale(b *testing.B) {
	_, set := appliedStatefulSet(b)
	b.ReportAllocs()
	for b.Loop() {
		owners, err := ownership.OwnersOf(set, replicasPath)
		if err != nil {
			b.Fatal(err)
		}
		decideScale(scaleInput{
			Declared: ptr.To[int32](3), Now: time.Now(),
			Live: &liveScale{Replicas: 3, Ours: ownership.Owns(owners, self), Owner: "Nobody", CarriedOut: ptr.To[int32](3)},
		})
	}
}

// appliedStatefulSet returns an MCPServer, and its StatefulSet as it was applied.
func appliedStatefulSet(b *testing.B) (*v1alpha1.MCPServer, *appsv1.StatefulSet) {
	b.Helper()
	server := &v1alpha1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"},
		Spec:       v1alpha1.MCPServerSpec{Image: "registry.example/server:1", Args: []string{"--verbose"}},
	}
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		b.Fatal(err)
	}
	want, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, applyconfigs.Cluster{})
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
	return server, set
}
