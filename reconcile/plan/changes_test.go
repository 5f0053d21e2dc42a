package plan

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

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

// TestAFieldThatIsRemovedTogetherWithTheScaleIsReported verifies that the apply configuration by which the operator knows that a field was there does not
// depend on the scale: a client may replace a StatefulSet with another scale and without a field.
func TestAFieldThatIsRemovedTogetherWithTheScaleIsReported(t *testing.T) {
	contentWith := func(labels map[string]string, replicas *int32) uint64 {
		t.Helper()
		want := appsv1ac.StatefulSet("web", "default").WithLabels(labels).WithSpec(appsv1ac.StatefulSetSpec())
		if replicas != nil {
			want.WithAnnotations(map[string]string{v1beta1.DeclaredReplicasAnnotation: "3"})
			want.Spec.WithReplicas(*replicas)
		}
		content, err := contentOf(want, 0)
		if err != nil {
			t.Fatal(err)
		}
		if replicas != nil && (want.Spec.Replicas == nil || want.Annotations[v1beta1.DeclaredReplicasAnnotation] == "") {
			t.Error("the apply configuration has lost its scale")
		}
		return content
	}
	labels := map[string]string{"app": "web"}
	if declared, yielded := contentWith(labels, ptr.To[int32](3)), contentWith(labels, nil); declared != yielded {
		t.Error("the scale changes the content")
	}
	if contentWith(labels, nil) == contentWith(map[string]string{"app": "other"}, nil) {
		t.Error("a label does not change the content")
	}
}
