package clients

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
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
	// What runs in parallel waits most of the time, for autoscalers and pods. The command line wins over this.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	log.SetLogger(logr.Discard())
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

// apply applies a manifest as a user does who is no GitOps tool.
func apply(t *testing.T, namespace, manifest string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifest, "-n", namespace, "apply", "--server-side", "-f", "-")
	must(t, err)
}

// named is an MCPServer, and its StatefulSet, by namespace and name.
func named(namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: name}
}

// kubectlScale scales the StatefulSet of an MCPServer with kubectl scale.
func kubectlScale(t *testing.T, server client.ObjectKey, n int32) {
	t.Helper()
	kubectl(t, server.Namespace, "scale", "statefulset", server.Name, fmt.Sprintf("--replicas=%d", n))
}

// operatorPasses makes the operator look at the MCPServer once more.
func operatorPasses(t *testing.T, server client.ObjectKey) {
	t.Helper()
	mark, err := operator.LogMark()
	must(t, err)
	kubectl(t, server.Namespace, "label", "statefulset", server.Name, "--overwrite", fmt.Sprintf("touched=%d", mark))
	must(t, operator.WaitForPassOver(t.Context(), mark, server.Namespace))
}

// scaleIs waits until the StatefulSet asks for n pods, and the MCPServer says that all of them are ready.
func scaleIs(t *testing.T, server client.ObjectKey, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas of %s, all ready", n, server.Name), func() (string, bool) {
		return isAt(t, server, n)
	})
}

// isAt tells whether it is now as scaleIs waits for.
func isAt(t *testing.T, server client.ObjectKey, n int32) (state string, is bool) {
	t.Helper()
	set, mcp := &appsv1.StatefulSet{}, &v1alpha1.MCPServer{}
	if err := errors.Join(theCluster.Client.Get(t.Context(), server, set), theCluster.Client.Get(t.Context(), server, mcp)); err != nil {
		return err.Error(), false
	}
	return fmt.Sprintf("%d replicas, %s, %v", *set.Spec.Replicas, mcp.Status.Ready, mcp.Status.Conditions),
		*set.Spec.Replicas == n && mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) &&
			apimeta.IsStatusConditionTrue(mcp.Status.Conditions, v1alpha1.ConditionReady)
}

// holds fails if the StatefulSet has any other scale than n at any instant while something is done, and returns who owned
// the scale meanwhile.
func holds(t *testing.T, server client.ObjectKey, n int32, do func()) (owners []string) {
	t.Helper()
	return moves(t, server, []int32{n}, do)
}

// repeated returns the first scales of an endless cycle, as many as somebody writes after the first, and then the last.
func repeated(cycle []int32, writes int, last int32) []int32 {
	var scales []int32
	for i := range writes + 1 {
		scales = append(scales, cycle[i%len(cycle)])
	}
	return slices.Compact(append(scales, last))
}

// moves fails if the StatefulSet has any other scales than these, one after the other, while something is done, and
// returns who owned the scale meanwhile: see cluster.Recorder.
func moves(t *testing.T, server client.ObjectKey, scales []int32, do func()) (owners []string) {
	t.Helper()
	recorder, err := theCluster.RecordScale(t.Context(), server)
	must(t, err)
	do()
	seen, err := recorder.Stop(t.Context())
	must(t, err)
	if !slices.Equal(seen, scales) {
		t.Fatalf("the scale of %s has to be %v, but was %v", server.Name, scales, seen)
	}
	return recorder.Owners()
}

// leftToOthers fails if the operator has owned the scale for an instant. It only ever writes a scale that it owns then.
func leftToOthers(t *testing.T, owners []string) {
	t.Helper()
	if slices.ContainsFunc(owners, func(at string) bool { return strings.Contains(at, applyconfigs.FieldManager) }) {
		t.Errorf("the operator has owned the scale that is left to others: %q", owners)
	}
}

// isManagedBy fails unless the MCPServer was written by a field manager by server-side apply, or without it.
func isManagedBy(t *testing.T, key client.ObjectKey, manager string, serverSide bool) {
	t.Helper()
	server := &v1alpha1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), key, server))
	var writers []string
	for _, entry := range server.ManagedFields {
		writers = append(writers, fmt.Sprintf("%s/%s", entry.Manager, entry.Operation))
	}
	if slices.Contains(writers, manager+"/Apply") != serverSide {
		t.Errorf("server-side apply by %s has to be %t, but it was written by %v", manager, serverSide, writers)
	}
}

// neitherOwnsTheScale waits until neither the operator nor the named field manager owns the scale.
func neitherOwnsTheScale(t *testing.T, server client.ObjectKey, manager string) {
	t.Helper()
	eventually(t, "neither "+manager+" nor the operator to own the scale of "+server.Name, func() (string, bool) {
		set := &appsv1.StatefulSet{}
		must(t, theCluster.Client.Get(t.Context(), server, set))
		owners, err := cluster.OwnersOfReplicas(set)
		must(t, err)
		return fmt.Sprint(owners), !slices.ContainsFunc(owners, func(owner string) bool {
			return strings.HasPrefix(owner, applyconfigs.FieldManager+"/") || strings.HasPrefix(owner, manager+"/")
		})
	})
}

var (
	must       = cluster.Must
	eventually = cluster.MustEventually
)

// together are several manifests in one.
func together(manifests ...string) string { return strings.Join(manifests, "---\n") }

// mcpServer is a manifest of an MCPServer, with more of its spec as YAML in flow style.
func mcpServer(name, image string, more ...string) string {
	return fmt.Sprintf(`apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: %s}
spec: {%s}
`, name, strings.Join(append([]string{fmt.Sprintf("image: %q, transport: streamable-http", image)}, more...), ", "))
}

// autoscaler is a manifest of a HorizontalPodAutoscaler that needs no metrics, because it has no choice. It puts the
// StatefulSet web back to n whenever somebody else has scaled it.
func autoscaler(n int32) string {
	return fmt.Sprintf(`apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  minReplicas: %[1]d
  maxReplicas: %[1]d
`, n)
}
