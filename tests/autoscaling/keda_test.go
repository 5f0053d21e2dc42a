package autoscaling

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// ofKEDA is the HorizontalPodAutoscaler that KEDA creates for a ScaledObject: the name in controllers/keda/hpa.go of KEDA 2.21, and the owner reference.
// It has a fixed number of replicas instead of the metrics of triggers.
const ofKEDA = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: keda-hpa-autoscaled
  ownerReferences:
  - {apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: autoscaled, controller: true, uid: 00000000-0000-0000-0000-00000000000a}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: autoscaled}
  minReplicas: 3
  maxReplicas: 3
`

// TestTheWritesOfKEDA simulates the writes of KEDA 2.21, because KEDA takes minutes to build. tests/keda tests KEDA itself.
// KEDA's pkg/scaling/executor/scale_scaledobjects.go writes the scale from and to 0, and controllers/keda/scaledobject_finalizer.go restores the
// original number. Both read and update the subresource scale without a field manager, so that it is the name of the executable: "keda" in KEDA's image.
// The controller of HorizontalPodAutoscalers, which writes the other numbers, is real.
func TestTheWritesOfKEDA(t *testing.T) {
	const byKEDA = "keda/Update/scale"
	for name, test := range map[string]struct {
		steps func(t *testing.T, namespace string)
		// scales and owners are those of the StatefulSet, in order.
		scales []int32
		owners []string
	}{
		"to 0 and back": {func(t *testing.T, namespace string) {
			kedaScales(t, namespace, 0)
			isOwnedBy(t, namespace, "Unclaimed")
			apply(t, namespace, ofKEDA)
			isIdleByKEDA(t, namespace)
			kedaScales(t, namespace, 1)
			isReady(t, namespace, 3, "1.0")
			isOwnedBy(t, namespace, "ScaledObject/autoscaled")
			kedaScales(t, namespace, 0)
			isIdleByKEDA(t, namespace)
			isOwnedBy(t, namespace, "ScaledObject/autoscaled")
			kubectl(t, namespace, "delete", "hpa", "keda-hpa-autoscaled")
			kedaScales(t, namespace, 2)
			isReady(t, namespace, 2, "1.0")
			isOwnedBy(t, namespace, "Unclaimed")
			// Kubernetes removes the owner with a write of 0 through the subresource, and records none for the next writes.
		}, []int32{2, 0, 1, 3, 0, 2}, []string{"mcpserver-operator/Apply", ""}},
		"between other numbers": {func(t *testing.T, namespace string) {
			kedaScales(t, namespace, 3)
			isOwnedBy(t, namespace, "keda") // without the HorizontalPodAutoscaler, there is no ScaledObject to name
			apply(t, namespace, ofKEDA)
			isOwnedBy(t, namespace, "ScaledObject/autoscaled")
			apply(t, namespace, strings.ReplaceAll(ofKEDA, "Replicas: 3", "Replicas: 4"))
			isReady(t, namespace, 4, "1.0")
			isOwnedBy(t, namespace, "ScaledObject/autoscaled")
			kubectl(t, namespace, "delete", "hpa", "keda-hpa-autoscaled")
			kedaScales(t, namespace, 2)
			isReady(t, namespace, 2, "1.0")
			isOwnedBy(t, namespace, "keda")
		}, []int32{2, 3, 4, 2}, []string{"mcpserver-operator/Apply", byKEDA, autoscalerManager, byKEDA}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace(t)
			apply(t, namespace, "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: autoscaled}\n"+
				"spec: {image: \"registry.example/mcp/search:1.0\", transport: streamable-http, replicas: 2}\n")
			isReady(t, namespace, 2, "1.0")
			recorder, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: namespace, Name: server})
			must(t, err)
			mark, err := theCluster.AuditMark()
			must(t, err)

			test.steps(t, namespace)

			scales, err := recorder.Stop(t.Context())
			must(t, err)
			if !slices.Equal(scales, test.scales) {
				t.Errorf("unexpected sequence of scales %v", scales)
			}
			if owners := recorder.Owners(); !slices.Equal(owners, test.owners) {
				t.Errorf("unexpected owners of the scale: %q", owners)
			}
			hasNoFight(t, get(t, namespace, &v1beta1.MCPServer{}))
			operatorWritesNoStatefulSet(t, mark, namespace)
		})
	}
}

func isIdleByKEDA(t *testing.T, namespace string) {
	t.Helper()
	isAtZero(t, namespace, v1beta1.PhaseReady, "Idle",
		"scaled to 0 by ScaledObject/autoscaled, which scales it up again when its metrics require it: no pod runs")
}

// kedaScales writes the scale as KEDA does.
func kedaScales(t *testing.T, namespace string, replicas int32) {
	t.Helper()
	config := rest.CopyConfig(theCluster.Config)
	config.UserAgent = "keda/v0.0.0 (linux/amd64) kubernetes/$Format"
	clients, err := kubernetes.NewForConfig(config)
	must(t, err)
	sets := clients.AppsV1().StatefulSets(namespace)
	eventually(t, "an update of the scale without a conflict", func() (string, bool) {
		scale, err := sets.GetScale(t.Context(), server, metav1.GetOptions{})
		must(t, err)
		scale.Spec.Replicas = replicas
		if _, err = sets.UpdateScale(t.Context(), server, scale, metav1.UpdateOptions{}); err != nil {
			return err.Error(), false
		}
		return "", true
	})
}

// isOwnedBy waits until the status names the owner of the scale.
func isOwnedBy(t *testing.T, namespace, owner string) {
	t.Helper()
	eventually(t, "the owner "+owner, func() (string, bool) {
		scale := get(t, namespace, &v1beta1.MCPServer{}).Status.Scale
		if scale == nil {
			return "", false
		}
		return scale.Owner, scale.Owner == owner
	})
}
