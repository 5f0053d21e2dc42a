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
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	// theCluster is the cluster of the suite.
	theCluster *cluster.Cluster
	// operator is the operator that runs on theCluster.
	operator *cluster.Operator
)

func TestMain(m *testing.M) {
	// Parallel tests mostly wait for autoscalers and pods. The command line overrides this value.
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

// newNamespace creates a namespace and deletes it when the test ends.
func newNamespace(t *testing.T) string {
	t.Helper()
	return theCluster.NewNamespace(t, "clients-")
}

// kubectl runs kubectl and returns its output.
func kubectl(t *testing.T, namespace string, args ...string) string {
	t.Helper()
	out, err := theCluster.Kubectl(t.Context(), append([]string{"-n", namespace}, args...)...)
	must(t, err)
	return out
}

// apply applies a manifest as a user without a GitOps tool.
func apply(t *testing.T, namespace, manifest string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifest, "-n", namespace, "apply", "--server-side", "-f", "-")
	must(t, err)
}

// named returns the key of an MCPServer and its StatefulSet.
func named(namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: name}
}

// kubectlScale scales the StatefulSet of an MCPServer with kubectl scale.
func kubectlScale(t *testing.T, server client.ObjectKey, n int32) {
	t.Helper()
	kubectl(t, server.Namespace, "scale", "statefulset", server.Name, fmt.Sprintf("--replicas=%d", n))
}

// operatorPasses triggers a pass of the operator over the MCPServer and waits for it.
func operatorPasses(t *testing.T, server client.ObjectKey) {
	t.Helper()
	mark, err := operator.LogMark()
	must(t, err)
	kubectl(t, server.Namespace, "label", "statefulset", server.Name, "--overwrite", fmt.Sprintf("touched=%d", mark))
	must(t, operator.WaitForPassOver(t.Context(), mark, server.Namespace))
}

// scaleIs waits until the StatefulSet has n replicas, and the MCPServer reports that all of them are ready.
func scaleIs(t *testing.T, server client.ObjectKey, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas of %s, all ready", n, server.Name), func() (string, bool) {
		return isAt(t, server, n)
	})
}

// isAt reports whether the condition of scaleIs is true now.
func isAt(t *testing.T, server client.ObjectKey, n int32) (state string, is bool) {
	t.Helper()
	set, mcp := &appsv1.StatefulSet{}, &v1beta1.MCPServer{}
	if err := errors.Join(theCluster.Client.Get(t.Context(), server, set), theCluster.Client.Get(t.Context(), server, mcp)); err != nil {
		return err.Error(), false
	}
	return fmt.Sprintf("%d replicas, %s, %v", *set.Spec.Replicas, mcp.Status.Ready, mcp.Status.Conditions),
		*set.Spec.Replicas == n && mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) &&
			apimeta.IsStatusConditionTrue(mcp.Status.Conditions, v1beta1.ConditionReady)
}

// holds fails if the StatefulSet has a scale other than n at any time while do runs. It returns the owners of the scale during that time.
func holds(t *testing.T, server client.ObjectKey, n int32, do func()) (owners []string) {
	t.Helper()
	return moves(t, server, []int32{n}, do)
}

// repeated returns the scales that result from a repeated cycle: the first one, one for each of the given writes, and then the last one.
func repeated(cycle []int32, writes int, last int32) []int32 {
	var scales []int32
	for i := range writes + 1 {
		scales = append(scales, cycle[i%len(cycle)])
	}
	return slices.Compact(append(scales, last))
}

// moves fails unless the StatefulSet has exactly these scales, in order, while do runs. It returns the owners of the scale during that
// time. See cluster.Recorder.
func moves(t *testing.T, server client.ObjectKey, scales []int32, do func()) (owners []string) {
	t.Helper()
	recorder, err := theCluster.RecordScale(t.Context(), server)
	must(t, err)
	do()
	seen, err := recorder.Stop(t.Context())
	must(t, err)
	if !slices.Equal(seen, scales) {
		t.Fatalf("want the scales of %s to be %v, got %v", server.Name, scales, seen)
	}
	return recorder.Owners()
}

// leftToOthers fails if the operator has owned the scale at any time. The operator only writes a scale that it then owns.
func leftToOthers(t *testing.T, owners []string) {
	t.Helper()
	if slices.ContainsFunc(owners, func(at string) bool { return strings.Contains(at, applyconfigs.FieldManager) }) {
		t.Errorf("the operator has owned a scale that it must leave to others: %q", owners)
	}
}

// isManagedBy fails unless the field manager has written the MCPServer with server-side apply, or without it, as given.
func isManagedBy(t *testing.T, key client.ObjectKey, manager string, serverSide bool) {
	t.Helper()
	server := &v1beta1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), key, server))
	var writers []string
	for _, entry := range server.ManagedFields {
		writers = append(writers, fmt.Sprintf("%s/%s", entry.Manager, entry.Operation))
	}
	if slices.Contains(writers, manager+"/Apply") != serverSide {
		t.Errorf("want server-side apply by %s: %t, but the writers are %v", manager, serverSide, writers)
	}
}

// neitherOwnsTheScale waits until neither the operator nor the given field manager owns the scale.
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

// together joins several manifests.
func together(manifests ...string) string { return strings.Join(manifests, "---\n") }

// mcpServer returns the manifest of an MCPServer. The argument more contains fields of its spec, in YAML's flow style.
func mcpServer(name, image string, more ...string) string {
	return fmt.Sprintf(`apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: %s}
spec: {%s}
`, name, strings.Join(append([]string{fmt.Sprintf("image: %q, transport: streamable-http", image)}, more...), ", "))
}

// autoscaler returns a HorizontalPodAutoscaler with a fixed number of replicas, which needs no metrics. It sets StatefulSet "web" back
// to n when another client has scaled it.
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
