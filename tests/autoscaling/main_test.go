// Package autoscaling tests MCPServers with a HorizontalPodAutoscaler. One autoscaler uses CPU metrics of the real metrics-server. The
// load rises and falls while new versions are rolled out, and only the autoscaler changes the scale. Another one scales to 0 and
// back with an external metric, and another one scales by the sessions of the pods. Stubs serve these two metrics.
package autoscaling

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// theCluster is the cluster of the suite.
var theCluster *cluster.Cluster

func TestMain(m *testing.M) {
	// The tests mostly wait for metrics, so all of them can run in parallel on any machine.
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	components := []string{controlplane.KubeControllerManager, controlplane.KubeScheduler, controlplane.MetricsServer}
	os.Exit(cluster.RunSuite("autoscaling", components, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return c.WithOperator(ctx, func(*cluster.Operator) (int, error) { return m.Run(), nil })
	}))
}

// server is the name of the example's MCPServer, StatefulSet and autoscaler.
const server = "autoscaled"

// newNamespace creates a namespace and deletes it when the test ends. On an existing cluster (USE_EXISTING_CLUSTER=true) it skips the
// test, because the cluster has no kwok to report the CPU usage of pods, and its audit log is not accessible.
func newNamespace(t *testing.T) string {
	t.Helper()
	theCluster.NeedAuditLog(t)
	return theCluster.NewNamespace(t, "autoscaling-")
}

func kubectl(t *testing.T, namespace string, args ...string) {
	t.Helper()
	_, err := theCluster.Kubectl(t.Context(), append([]string{"-n", namespace}, args...)...)
	must(t, err)
}

// apply applies a manifest without forcing conflicts.
func apply(t *testing.T, namespace, manifest string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifest, "-n", namespace, "apply", "--server-side", "-f", "-")
	must(t, err)
}

// uses sets the CPU usage of every existing pod.
func uses(t *testing.T, namespace, cpu string) {
	t.Helper()
	kubectl(t, namespace, "annotate", "pods", "--all", "--overwrite", controlplane.CPUUsageAnnotation+"="+cpu)
}

// upgrade applies the manifest with a different version of the image. Each pod of that version uses the given amount of CPU.
func upgrade(t *testing.T, namespace, manifest, version, cpu string) {
	t.Helper()
	apply(t, namespace, strings.NewReplacer("search:1.0", "search:"+version, "\n  transport:", fmt.Sprintf(
		"\n  podTemplateSpec: {metadata: {annotations: {%s: %s}}}\n  transport:", controlplane.CPUUsageAnnotation, cpu)).Replace(manifest))
}

// replicasBecome waits until the StatefulSet has n replicas in its spec.
func replicasBecome(t *testing.T, namespace string, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas", n), func() (string, bool) { return scaleIs(t, namespace, n) })
}

// scaleIs reports whether the StatefulSet has n replicas in its spec. The state describes the StatefulSet and the autoscaler.
func scaleIs(t *testing.T, namespace string, n int32) (state string, is bool) {
	t.Helper()
	replicas := ptr.Deref(get(t, namespace, &appsv1.StatefulSet{}).Spec.Replicas, -1)
	return fmt.Sprintf("%d, %+v", replicas, get(t, namespace, &autoscalingv2.HorizontalPodAutoscaler{}).Status), replicas == n
}

// isReady waits until the MCPServer reports that n of n pods are ready, and all pods run a version of the image.
func isReady(t *testing.T, namespace string, n int, version string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ready pods of version %s", n, version), func() (string, bool) {
		mcp := get(t, namespace, &v1beta1.MCPServer{})
		var pods corev1.PodList
		must(t, theCluster.Client.List(t.Context(), &pods, client.InNamespace(namespace)))
		run := 0
		for _, pod := range pods.Items {
			if strings.HasSuffix(pod.Spec.Containers[0].Image, "search:"+version) {
				run++
			}
		}
		ready := apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionReady)
		return fmt.Sprintf("%s ready, %d of %d pods run it, %v", mcp.Status.Ready, run, len(pods.Items), ready),
			mcp.Status.Ready == fmt.Sprintf("%d/%d", n, n) && run == n && len(pods.Items) == n &&
				ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == mcp.Generation
	})
}

// get reads the object with the name of the server. If the object does not exist, get returns it unchanged.
func get[O client.Object](t *testing.T, namespace string, object O) O {
	t.Helper()
	must(t, client.IgnoreNotFound(theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: server}, object)))
	return object
}

// patience limits how long the autoscaler may take. The autoscaler needs two scrapes of metrics-server, 10 s apart, and moves in steps.
// Five tests share the machine.
const patience = 5 * time.Minute

// eventually fails a test if a condition does not become true.
func eventually(t *testing.T, what string, is func() (state string, done bool)) {
	t.Helper()
	must(t, cluster.EventuallyWithin(t.Context(), patience, what, func(context.Context) (string, bool) { return is() }))
}

var must = cluster.Must
