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

	"mcpserver-operator/crd/v1alpha1"
)

// The example has an autoscaler of 2 to 6 pods, at 70% of 100m of CPU each.
const (
	fewest, most = 2, 6
	busy, idle   = "200m", "20m"
)

// autoscalerUser is the user as which kube-controller-manager autoscales.
const autoscalerUser = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

// autoscalerManager is how that writes a scale.
const autoscalerManager = "kube-controller-manager/Update/scale"

// example is the manifest that the documentation recommends: an MCPServer without replicas, and an autoscaler on its
// StatefulSet.
func example(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../deploy/examples/03-autoscaled.yaml")
	must(t, err)
	return string(content)
}

// TestAnAutoscalerOnTheStatefulSet: the scale is never declared, and never anybody's but the autoscaler's.
func TestAnAutoscalerOnTheStatefulSet(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	apply(t, namespace, example(t))
	replicasBecome(t, namespace, fewest)

	owners := loadComesAndGoes(t, namespace, example(t), "statefulsets")
	// Kubernetes records no owner of a write through /scale of what nobody owns. The status of the autoscaler tells it.
	if !slices.Equal(owners, []string{""}) {
		t.Errorf("the scale was owned by %q", owners)
	}
	if owner := get(t, namespace, &v1alpha1.MCPServer{}).Status.Scale.Owner; owner != "HorizontalPodAutoscaler/"+server {
		t.Errorf("the status says that the owner is %s", owner)
	}
}

// TestAnAutoscalerFromAStartingValue: the autoscaler takes the scale over from a declaration, and is named as its owner.
// Applying the same number again, with another image, does not declare it again.
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
	mcp := get(t, namespace, &v1alpha1.MCPServer{})
	if mcp.Status.Scale.Owner != "HorizontalPodAutoscaler/"+server {
		t.Errorf("the status says that the owner is %s", mcp.Status.Scale.Owner)
	}
	hasNoFight(t, mcp)
}

// TestAnAutoscalerOnTheMCPServer: the autoscaler declares, and the operator follows. The manifest leaves replicas out, so
// that applying it again, with another image, does not declare another number.
func TestAnAutoscalerOnTheMCPServer(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := strings.Replace(example(t),
		"{apiVersion: apps/v1, kind: StatefulSet,", "{apiVersion: toolhive.stacklok.dev/v1alpha1, kind: MCPServer,", 1)
	apply(t, namespace, manifest)
	kubectl(t, namespace, "scale", "mcpserver/"+server, "--replicas=2")
	replicasBecome(t, namespace, fewest)

	owners := loadComesAndGoes(t, namespace, manifest, "mcpservers")
	if !slices.Equal(owners, []string{"mcpserver-operator/Apply"}) {
		t.Errorf("the scale was owned by %q", owners)
	}
	mcp := get(t, namespace, &v1alpha1.MCPServer{})
	if mcp.Status.Scale.Owner != v1alpha1.ScaleOwnerMCPServer || *mcp.Spec.Replicas != fewest {
		t.Errorf("the status says that the owner is %s, of %d replicas", mcp.Status.Scale.Owner, *mcp.Spec.Replicas)
	}
	hasNoFight(t, mcp)
}

// loadComesAndGoes makes the pods busy and idle again, and applies new versions of the manifest all the while that the
// autoscaler scales up, and down, so that writes of the scale and of the template meet. It fails unless each change of the
// scale of the StatefulSet comes from a write of the autoscaler to the scale of the given resource, and returns who owned
// the scale meanwhile.
func loadComesAndGoes(t *testing.T, namespace, manifest, resource string) []string {
	t.Helper()
	isReady(t, namespace, fewest, "1.0")
	recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
	must(t, err)
	mark, err := theCluster.AuditMark()
	must(t, err)

	uses(t, namespace, busy)
	isReady(t, namespace, most, upgradesUntilScaled(t, namespace, manifest, fewest, most, "2", busy))
	kubectl(t, namespace, "wait", "--for=condition=ScalingActive", "--timeout="+patience.String(), "hpa/"+server) // it has metrics, of the new pods too
	uses(t, namespace, idle)
	isReady(t, namespace, fewest, upgradesUntilScaled(t, namespace, manifest, most, fewest, "3", idle))

	scales, err := recorder.Stop(t.Context())
	must(t, err)
	if !riseAndFall(scales) {
		t.Errorf("the scale was %v, one after the other", scales)
	}
	if writes := scaleWrites(t, mark, namespace, resource); len(scales)-1 > writes {
		t.Errorf("the scale was %v, one after the other, but the autoscaler wrote it only %d times", scales, writes)
	}
	for _, other := range []string{"statefulsets", "mcpservers"} {
		if writes := scaleWrites(t, mark, namespace, other); other != resource && writes > 0 {
			t.Errorf("the autoscaler wrote the scale of %s %d times", other, writes)
		}
	}
	return recorder.Owners()
}

// upgradesUntilScaled applies one new version of the manifest after the other until the autoscaler has changed the scale, and
// one more at once. That alone replaces the pods that were there: the autoscaler needs pods that are old enough to have
// metrics. It returns the last version.
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

// riseAndFall reports whether scales go from the fewest pods up to the most and down again, and nowhere else.
func riseAndFall(scales []int32) bool {
	peak := slices.Index(scales, most)
	if peak < 0 || scales[0] != fewest || scales[len(scales)-1] != fewest {
		return false
	}
	down := slices.Clone(scales[peak:])
	slices.Reverse(down)
	return slices.IsSorted(scales[:peak+1]) && slices.IsSorted(down)
}

// scaleWrites returns how often the autoscaler has written the scale of a resource.
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

// hasNoFight fails if the operator has ever put a scale back.
func hasNoFight(t *testing.T, mcp *v1alpha1.MCPServer) {
	t.Helper()
	if mcp.Status.Scale.TakeBacks != nil || apimeta.FindStatusCondition(mcp.Status.Conditions, v1alpha1.ConditionAutoscalerProblem) != nil {
		t.Errorf("there is a fight: %+v, %v", mcp.Status.Scale.TakeBacks, mcp.Status.Conditions)
	}
}
