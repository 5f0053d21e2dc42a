package observe

import (
	"reflect"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/diagnosis"
	"mcpserver-operator/reconcile/scale"
)

func service(ownerAPIVersion, ownerKind string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "mcp-web-proxy", UID: "1", ResourceVersion: "7", Labels: map[string]string{"a": "b"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: ownerAPIVersion, Kind: ownerKind, Name: "web", Controller: ptr.To(true)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "someone", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}},
		},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func TestTheCacheHoldsChildrenWhole(t *testing.T) {
	for _, version := range []string{"toolhive.stacklok.dev/v1beta1", "toolhive.stacklok.dev/v1beta1"} {
		child := service(version, "MCPServer")
		held, err := childOrIdentity[corev1.Service](child)
		if err != nil || held != any(child) {
			t.Errorf("%s: got %v, %v", version, held, err)
		}
	}
}

func TestTheCacheHoldsOfOtherObjectsWhatIsToldOfThem(t *testing.T) {
	other := service("apps/v1", "Deployment")
	held, err := childOrIdentity[corev1.Service](other)
	if err != nil {
		t.Fatal(err)
	}
	kept, isObject := held.(client.Object)
	if !isObject {
		t.Fatalf("got %T", held)
	}
	server, child := &v1beta1.MCPServer{}, Child{KindService, "mcp-web-proxy"}
	if got, want := foreign(server, child, kept), foreign(server, child, other); !reflect.DeepEqual(got, want) {
		t.Errorf("the report is %v, wanted %v", got, want)
	}
	if client.ObjectKeyFromObject(kept) != client.ObjectKeyFromObject(other) || kept.GetUID() != types.UID("1") ||
		kept.GetResourceVersion() != "7" {
		t.Errorf("the cached object is another object: %v", kept)
	}
	if kept.GetLabels() != nil || len(held.(*corev1.Service).Spec.Ports) > 0 || kept.GetManagedFields()[0].FieldsV1 != nil {
		t.Errorf("the cache contains unneeded fields: %v", held)
	}
}

func TestTheCacheHoldsOfAnAutoscalerWhatIsLookedAt(t *testing.T) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "someone"}},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "web", Controller: ptr.To(true)}}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 4,
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web"}},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 3, Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{
			{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue, Message: "the HPA controller scaled the workload to zero"},
		}},
	}
	held, err := onlyWhatIsScaled(hpa)
	if err != nil {
		t.Fatal(err)
	}
	kept, isAutoscaler := held.(*autoscalingv2.HorizontalPodAutoscaler)
	if !isAutoscaler || targetOf(kept) != targetOf(hpa) || scale.AutoscalerName(kept) != "ScaledObject/web" || kept.Spec.MaxReplicas != 4 {
		t.Errorf("a needed field is missing: %v", held)
	}
	if !HasScaledToZero(kept) {
		t.Fatalf("the condition ScaledToZero is missing: %v", held)
	}
	if kept.Status.CurrentReplicas != 0 || kept.ManagedFields != nil || kept.Status.Conditions[0].Message != "" {
		t.Errorf("the cache contains unneeded fields: %v", held)
	}
}

// TestTheCacheHoldsOfAPodWhatThereIsToTell verifies that the cached part of a pod leads to the same findings as the whole pod. The cache keeps
// little of a serving pod.
func TestTheCacheHoldsOfAPodWhatThereIsToTell(t *testing.T) {
	for name, state := range podStates {
		pod := state.pod.DeepCopy()
		pod.Spec.Containers = []corev1.Container{{Name: "mcp", Image: "registry.example/server:1"}}
		held, err := onlyHowPodsAre(pod)
		if err != nil {
			t.Fatal(err)
		}
		kept, isPod := held.(*corev1.Pod)
		if !isPod {
			t.Fatalf("the cache contains a %T", held)
		}
		server, later := diagnosis.Server{Container: "mcp", Port: 1}, time.Now().Add(time.Hour)
		if !equality.Semantic.DeepEqual(diagnosis.Pod(kept, server, later), diagnosis.Pod(pod, server, later)) ||
			tellOf(kept) != tellOf(pod) || worthALook(kept) != worthALook(pod) ||
			diagnosis.LookAgain(kept, time.Now()).Round(time.Second) != diagnosis.LookAgain(pod, time.Now()).Round(time.Second) {
			t.Errorf("for a pod that %s, the cached part leads to another finding", name)
		}
		if len(kept.Spec.Containers) > 0 || (name == "serves" && len(kept.Status.ContainerStatuses) > 0) {
			t.Errorf("for a pod that %s, the cache contains unneeded fields: %+v", name, kept)
		}
	}
}

func TestTheCacheHoldsOfAnMCPServerWhenItWasReportedOn(t *testing.T) {
	at := metav1.Unix(7, 0)
	fields := metav1.NewFieldsV1(`{"f:status":{}}`)
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: "someone", FieldsV1: fields},
		{Manager: applyconfigs.FieldManager, Operation: metav1.ManagedFieldsOperationApply, Subresource: "status", Time: &at, FieldsV1: fields},
		{Manager: "someone", Subresource: "status", FieldsV1: fields},
	}}}
	held, err := onlyWhenReported(server)
	if err != nil {
		t.Fatal(err)
	}
	kept := held.(*v1beta1.MCPServer)
	if !ReportedAt(kept).Equal(&at) || len(kept.ManagedFields) != 1 || kept.ManagedFields[0].FieldsV1 != nil {
		t.Errorf("got %v", kept.ManagedFields)
	}
}

func TestAnAutoscalerAsksForAPassWhenItHasScaled(t *testing.T) {
	before := &autoscalingv2.HorizontalPodAutoscaler{Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 1, DesiredReplicas: 1}}
	busy := before.DeepCopy()
	busy.Status.CurrentReplicas = 2
	busy.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue}}
	if AutoscalerChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: busy}) {
		t.Error("a change of an unused field triggers a pass")
	}
	scaled := before.DeepCopy()
	scaled.Status.DesiredReplicas, scaled.Status.LastScaleTime = 2, ptr.To(metav1.Now())
	if !AutoscalerChanged.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: scaled}) {
		t.Error("a change of the desired scale does not trigger a pass")
	}
}
