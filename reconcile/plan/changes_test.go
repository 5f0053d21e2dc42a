package plan

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"mcpserver-operator/crd/v1beta1"
)

// TestWhatIsMissingWasRemovedIfItHadBeenThere verifies that a missing field counts as removed only if the child had all fields before.
// Otherwise, the field is new.
func TestWhatIsMissingWasRemovedIfItHadBeenThere(t *testing.T) {
	want := unstructuredOf(appsv1ac.StatefulSet("web", "default").
		WithLabels(map[string]string{"app": "web"}).
		WithAnnotations(map[string]string{v1beta1.DeclaredReplicasAnnotation: "3"}).
		WithSpec(appsv1ac.StatefulSetSpec().WithReplicas(3).
			WithTemplate(corev1ac.PodTemplateSpec().WithSpec(corev1ac.PodSpec().WithContainers(
				corev1ac.Container().WithName("mcp").WithImage("a").WithEnv(corev1ac.EnvVar().WithName("MODE").WithValue("b")))))))
	live := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.StatefulSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "mcp", Image: "a"}},
		}}},
	}
	const removed = `[{somebody [.metadata.labels .spec.template.spec.containers[name="mcp"].env] true false}]`
	for hadAll, wanted := range map[bool]string{true: removed, false: "[]"} {
		taken, err := undone(want, live, hadAll)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(taken); got != wanted {
			t.Errorf("had all %t: %s, wanted %s", hadAll, got, wanted)
		}
	}
}
