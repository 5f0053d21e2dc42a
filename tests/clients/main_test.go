package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	// theCluster is where the tests run.
	theCluster *cluster.Cluster
	// operator is the operator that runs there.
	operator *cluster.Operator
)

func TestMain(m *testing.M) {
	components := []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}
	os.Exit(cluster.RunSuite("clients", components, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return c.WithOperator(ctx, func(o *cluster.Operator) (int, error) {
			operator = o
			return m.Run(), nil
		})
	}))
}

// newNamespace makes a namespace that goes away with the test.
func newNamespace(t *testing.T) string {
	t.Helper()
	return theCluster.NewNamespace(t, "clients-")
}

// kubectl returns what kubectl printed.
func kubectl(t *testing.T, namespace string, args ...string) string {
	t.Helper()
	out, err := theCluster.Kubectl(t.Context(), append([]string{"-n", namespace}, args...)...)
	must(t, err)
	return out
}

// scaleIs waits until the StatefulSet web asks for n pods, and the MCPServer says that all of them are ready.
func scaleIs(t *testing.T, namespace string, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas, all ready", n), func() (string, bool) {
		set, mcp := &appsv1.StatefulSet{}, &v1alpha1.MCPServer{}
		key := client.ObjectKey{Namespace: namespace, Name: "web"}
		if err := errors.Join(theCluster.Client.Get(t.Context(), key, set), theCluster.Client.Get(t.Context(), key, mcp)); err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%d replicas, %s, %v", *set.Spec.Replicas, mcp.Status.Ready, mcp.Status.Conditions),
			*set.Spec.Replicas == n && mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) &&
				apimeta.IsStatusConditionTrue(mcp.Status.Conditions, v1alpha1.ConditionReady)
	})
}

// holds fails if the StatefulSet web has any other scale than n at any instant while something is done.
func holds(t *testing.T, namespace string, n int32, do func()) {
	t.Helper()
	moves(t, namespace, []int32{n}, do)
}

// repeated returns the first scales of an endless cycle, as many as somebody writes after the first, and then the last.
func repeated(cycle []int32, writes int, last int32) []int32 {
	var scales []int32
	for i := range writes + 1 {
		scales = append(scales, cycle[i%len(cycle)])
	}
	return slices.Compact(append(scales, last))
}

// moves fails if the StatefulSet web has any other scales than these, one after the other, while something is done.
func moves(t *testing.T, namespace string, scales []int32, do func()) {
	t.Helper()
	recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"})
	must(t, err)
	do()
	seen, err := recorder.Stop(t.Context())
	must(t, err)
	if !slices.Equal(seen, scales) {
		t.Fatalf("the scale has to be %v, but was %v", scales, seen)
	}
}

// isManagedBy fails unless the MCPServer web was written by a field manager by server-side apply, or without it.
func isManagedBy(t *testing.T, namespace, manager string, serverSide bool) {
	t.Helper()
	server := &v1alpha1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"}, server))
	var writers []string
	for _, entry := range server.ManagedFields {
		writers = append(writers, fmt.Sprintf("%s/%s", entry.Manager, entry.Operation))
	}
	if slices.Contains(writers, manager+"/Apply") != serverSide {
		t.Errorf("server-side apply by %s has to be %t, but it was written by %v", manager, serverSide, writers)
	}
}

// scaleOwners returns the field managers that own the scale of the StatefulSet web.
func scaleOwners(t *testing.T, namespace string) []string {
	t.Helper()
	set := &appsv1.StatefulSet{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"}, set))
	owners, err := ownership.OwnersOf(set, fieldpath.MakePathOrDie("spec", "replicas"))
	must(t, err)
	names := []string{}
	for _, owner := range owners {
		names = append(names, owner.Name)
	}
	return names
}

// neitherOwnsTheScale waits until neither the operator nor the named field manager owns the scale.
func neitherOwnsTheScale(t *testing.T, namespace, manager string) {
	t.Helper()
	eventually(t, "neither "+manager+" nor the operator to own the scale", func() (string, bool) {
		owners := scaleOwners(t, namespace)
		return fmt.Sprint(owners), !slices.Contains(owners, applyconfigs.FieldManager) && !slices.Contains(owners, manager)
	})
}

var (
	must       = cluster.Must
	eventually = cluster.MustEventually
)

// mcpServer is a manifest of the MCPServer web, with more of its spec as YAML in flow style.
func mcpServer(image string, more ...string) string {
	return fmt.Sprintf(`apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: web}
spec: {%s}
`, strings.Join(append([]string{fmt.Sprintf("image: %q, transport: streamable-http", image)}, more...), ", "))
}

// autoscaler is a manifest of a HorizontalPodAutoscaler that needs no metrics, because it has no choice.
func autoscaler(n int) string {
	return fmt.Sprintf(`apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  minReplicas: %[1]d
  maxReplicas: %[1]d
`, n)
}
