package autoscaling

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// The autoscaler of the example has 2 to 6 pods. Its target is 70% of a CPU request of 100m per pod.
const (
	fewest, most = 2, 6
	busy, idle   = "200m", "20m"
)

// autoscalerUser is the user of the autoscaler in kube-controller-manager.
const autoscalerUser = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

// autoscalerManager is the field manager of the autoscaler for the scale.
const autoscalerManager = "kube-controller-manager/Update/scale"

// example returns the manifest that the documentation recommends: an MCPServer without replicas, and an autoscaler for its StatefulSet.
func example(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../deploy/examples/03-autoscaled.yaml")
	must(t, err)
	return string(content)
}

// TestAnAutoscalerOnTheStatefulSet: nobody declares the scale, and only the autoscaler writes it.
func TestAnAutoscalerOnTheStatefulSet(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	apply(t, namespace, example(t))
	replicasBecome(t, namespace, fewest)

	owners := loadComesAndGoes(t, namespace, example(t), "statefulsets")
	// If nobody owns the field, Kubernetes records no owner for a write through /scale. The operator uses the autoscaler's status instead.
	if !slices.Equal(owners, []string{""}) {
		t.Errorf("unexpected owners of the scale: %q", owners)
	}
	if owner := get(t, namespace, &v1beta1.MCPServer{}).Status.Scale.Owner; owner != "HorizontalPodAutoscaler/"+server {
		t.Errorf("unexpected owner in the status: %s", owner)
	}
}

// TestAnAutoscalerFromAStartingValue: the autoscaler takes over a declared scale, and the status names it as the owner. A second apply of
// the same number with a different image does not declare the number again.
func TestAnAutoscalerFromAStartingValue(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := strings.Replace(example(t), "\n  transport:", "\n  replicas: 2\n  transport:", 1)
	apply(t, namespace, manifest)
	replicasBecome(t, namespace, fewest)

	owners := loadComesAndGoes(t, namespace, manifest, "statefulsets")
	if !slices.Equal(owners, []string{"mcpserver-operator/Apply", autoscalerManager}) {
		t.Errorf("the scale was owned by %q", owners)
	}
	mcp := get(t, namespace, &v1beta1.MCPServer{})
	if mcp.Status.Scale.Owner != "HorizontalPodAutoscaler/"+server {
		t.Errorf("the status says that the owner is %s", mcp.Status.Scale.Owner)
	}
	hasNoFight(t, mcp)
}

// TestAnAutoscalerOnTheMCPServer: the autoscaler declares replicas, and the operator follows. The manifest leaves replicas out, so a
// second apply with a different image does not change them.
func TestAnAutoscalerOnTheMCPServer(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := strings.Replace(example(t),
		"{apiVersion: apps/v1, kind: StatefulSet,", "{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer,", 1)
	apply(t, namespace, manifest)
	kubectl(t, namespace, "scale", "mcpserver/"+server, "--replicas=2")
	replicasBecome(t, namespace, fewest)

	owners := loadComesAndGoes(t, namespace, manifest, "mcpservers")
	if !slices.Equal(owners, []string{"mcpserver-operator/Apply"}) {
		t.Errorf("the scale was owned by %q", owners)
	}
	mcp := get(t, namespace, &v1beta1.MCPServer{})
	if mcp.Status.Scale.Owner != v1beta1.ScaleOwnerMCPServer || *mcp.Spec.Replicas != fewest {
		t.Errorf("the status says that the owner is %s, of %d replicas", mcp.Status.Scale.Owner, *mcp.Spec.Replicas)
	}
	hasNoFight(t, mcp)
}

// loadComesAndGoes makes the pods busy and idle again. While the autoscaler scales up and down, it applies new versions of the manifest,
// so that writes of the scale and of the template interleave. It fails unless each change of the StatefulSet's scale comes from a write of
// the autoscaler to the scale of the given resource. It returns the owners of the scale during that time.
func loadComesAndGoes(t *testing.T, namespace, manifest, resource string) []string {
	t.Helper()
	isReady(t, namespace, fewest, "1.0")
	recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
	must(t, err)
	mark, err := theCluster.AuditMark()
	must(t, err)

	uses(t, namespace, busy)
	isReady(t, namespace, most, upgradesUntilScaled(t, namespace, manifest, fewest, most, "2", busy))
	kubectl(t, namespace, "wait", "--for=condition=ScalingActive", "--timeout="+patience.String(), "hpa/"+server) // metrics of the new pods are available too
	uses(t, namespace, idle)
	isReady(t, namespace, fewest, upgradesUntilScaled(t, namespace, manifest, most, fewest, "3", idle))

	scales, err := recorder.Stop(t.Context())
	must(t, err)
	if !riseAndFall(scales) {
		t.Errorf("unexpected sequence of scales %v", scales)
	}
	if writes := scaleWrites(t, mark, namespace, resource); len(scales)-1 > writes {
		t.Errorf("the scales were %v, but the autoscaler wrote only %d times", scales, writes)
	}
	for _, other := range []string{"statefulsets", "mcpservers"} {
		if writes := scaleWrites(t, mark, namespace, other); other != resource && writes > 0 {
			t.Errorf("the autoscaler wrote the scale of %s %d times", other, writes)
		}
	}
	return recorder.Owners()
}

// upgradesUntilScaled applies new versions of the manifest until the autoscaler has changed the scale, and then one more version at once.
// Only that last version replaces the existing pods: the autoscaler only uses pods that are old enough to have metrics. It returns the
// last version.
func upgradesUntilScaled(t *testing.T, namespace, manifest string, from, to int32, major, cpu string) string {
	t.Helper()
	held := strings.Replace(manifest, "\n  transport:",
		fmt.Sprintf("\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: %d}}\n  transport:", from), 1)
	minor := 0
	version := func() string { return fmt.Sprintf("%s.%d", major, minor) }
	eventually(t, fmt.Sprintf("%d replicas while new versions are applied", to), func() (string, bool) {
		minor++
		upgrade(t, namespace, held, version(), cpu)
		return scaleIs(t, namespace, to)
	})
	if minor == 1 {
		t.Errorf("the scale was %d as soon as the first new version was applied", to)
	}
	minor++
	upgrade(t, namespace, manifest, version(), cpu)
	return version()
}

// riseAndFall reports whether the scales rise from the minimum to the maximum, fall back to the minimum, and do nothing else.
func riseAndFall(scales []int32) bool {
	peak := slices.Index(scales, most)
	if peak < 0 || scales[0] != fewest || scales[len(scales)-1] != fewest {
		return false
	}
	down := slices.Clone(scales[peak:])
	slices.Reverse(down)
	return slices.IsSorted(scales[:peak+1]) && slices.IsSorted(down)
}

// scaleWrites returns the number of writes of the autoscaler to the scale of a resource.
func scaleWrites(t *testing.T, mark int64, namespace, resource string) int {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, autoscalerUser)
	must(t, err)
	writes := 0
	for _, request := range requests {
		if request.IsWrite() && request.Code == http.StatusOK && request.Namespace == namespace &&
			request.Resource == resource && request.Subresource == "scale" {
			writes++
		}
	}
	return writes
}

// hasNoFight fails if the operator has ever restored a scale.
func hasNoFight(t *testing.T, mcp *v1beta1.MCPServer) {
	t.Helper()
	if mcp.Status.Scale.TakeBacks != nil || apimeta.FindStatusCondition(mcp.Status.Conditions, v1beta1.ConditionAutoscalerProblem) != nil {
		t.Errorf("the operator restored the scale: %+v, %v", mcp.Status.Scale.TakeBacks, mcp.Status.Conditions)
	}
}
