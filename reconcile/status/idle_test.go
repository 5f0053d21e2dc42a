package status

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/plan"
)

// atZero returns an autoscaler that has scaled to 0. Failure is the reason why it has no metrics. If empty, it has metrics.
func atZero(failure string) autoscalingv2.HorizontalPodAutoscaler {
	hpa := autoscaler("web")
	active := corev1.ConditionTrue
	if failure != "" {
		active = corev1.ConditionFalse
	}
	hpa.Spec.MinReplicas = ptr.To[int32](0)
	hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{
		{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue, Reason: "ScaledToZero", Message: "the HPA controller scaled the workload to zero"},
		{Type: autoscalingv2.ScalingActive, Status: active, Reason: failure, Message: "now"},
	}
	return hpa
}

// notAtZero returns an autoscaler that can scale to 0, but has not.
func notAtZero() autoscalingv2.HorizontalPodAutoscaler {
	hpa := atZero(scalingDisabled)
	hpa.Status.Conditions[0].Status = corev1.ConditionFalse
	return hpa
}

// TestZeroIsIdleByAnAutoscalerAndStoppedByAPerson also checks the advice in the message.
func TestZeroIsIdleByAnAutoscalerAndStoppedByAPerson(t *testing.T) {
	keda := autoscaler("keda-hpa-web")
	keda.OwnerReferences = []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "jobs", Controller: ptr.To(true)}}
	type hpas = []autoscalingv2.HorizontalPodAutoscaler
	by := func(name string) []ownership.Owner {
		return []ownership.Owner{{Manager: ownership.Manager{Name: name, Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "scale"}}}
	}
	const start = "run: kubectl -n team scale statefulset web --replicas=1"

	for _, row := range []struct {
		name     string
		owners   []ownership.Owner
		declared *int32
		found    observe.Autoscalers
		reason   string
		phase    v1beta1.Phase
		says     string
		saysNot  string
	}{
		{"no manager, no autoscaler", nil, nil, observe.Autoscalers{}, reasonScaledToZero, v1beta1.PhaseStopped, "scaled to 0: no pod runs", "start"},
		{"a person", by("kubectl"), nil, observe.Autoscalers{}, reasonScaledToZero, v1beta1.PhaseStopped, "scaled to 0: no pod runs", "start"},
		{"an autoscaler", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{atZero("")}}, reasonIdle, v1beta1.PhaseReady,
			"HorizontalPodAutoscaler/web, which scales it up again", "at present"},
		{"an autoscaler with a manager", by("kube-controller-manager"), ptr.To[int32](2), observe.Autoscalers{OfStatefulSet: hpas{atZero("")}}, reasonIdle, v1beta1.PhaseReady,
			"HorizontalPodAutoscaler/web", "at present"},
		{"an autoscaler that has lost its metrics", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{atZero("FailedGetExternalMetric")}}, reasonIdle, v1beta1.PhaseReady,
			`("FailedGetExternalMetric"): see kubectl -n team describe hpa web`, "start"},
		{"an autoscaler that no longer has a metric that works without pods", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{atZero(scalingDisabled)}},
			reasonScaledToZero, v1beta1.PhaseStopped, start, "idle"},
		{"a person, under an autoscaler", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{notAtZero()}}, reasonScaledToZero, v1beta1.PhaseStopped,
			"HorizontalPodAutoscaler/web does not scale up from a 0 that it did not set. To start the server, " + start, ""},
		{"a person, under an autoscaler of Kubernetes 1.36", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{autoscaler("web")}}, reasonScaledToZero, v1beta1.PhaseStopped, start, ""},
		{"a declaration, under an autoscaler", by("mcpserver-operator"), ptr.To[int32](0), observe.Autoscalers{OfStatefulSet: hpas{notAtZero()}},
			reasonScaledToZero, v1beta1.PhaseStopped, "set spec.replicas to 1 or more", "kubectl"},
		{"a person, after a declaration, under an autoscaler", by("kubectl"), ptr.To[int32](1), observe.Autoscalers{OfStatefulSet: hpas{notAtZero()}},
			reasonScaledToZero, v1beta1.PhaseStopped, start, "spec.replicas"},
		{"the second of two autoscalers", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{notAtZero(), atZero("")}}, reasonIdle, v1beta1.PhaseReady, "HorizontalPodAutoscaler/web", ""},
		{"an autoscaler on the MCPServer", by("mcpserver-operator"), ptr.To[int32](0), observe.Autoscalers{OfMCPServer: hpas{atZero("")}}, reasonIdle, v1beta1.PhaseReady, "HorizontalPodAutoscaler/web", ""},
		{"KEDA", by("keda"), nil, observe.Autoscalers{OfStatefulSet: hpas{keda}}, reasonIdle, v1beta1.PhaseReady, "ScaledObject/jobs", ""},
		{"KEDA, no manager", nil, nil, observe.Autoscalers{OfStatefulSet: hpas{keda}}, reasonIdle, v1beta1.PhaseReady, "ScaledObject/jobs", ""},
		{"a person, under KEDA", by("kubectl"), nil, observe.Autoscalers{OfStatefulSet: hpas{keda}}, reasonScaledToZero, v1beta1.PhaseStopped, "scaled to 0: no pod runs", "start"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
			server.Spec.Replicas = row.declared
			status := Next(&observe.Snapshot{
				Server: server, Autoscalers: row.found, ScaleOwners: row.owners,
				Children: observe.Children{StatefulSet: &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](0)}}},
			}, plan.Plan{}, nil)
			ready := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
			if ready.Status != metav1.ConditionTrue || ready.Reason != row.reason || status.Phase != row.phase {
				t.Errorf("phase %s, Ready %+v", status.Phase, ready)
			}
			if !strings.Contains(ready.Message, row.says) || (row.saysNot != "" && strings.Contains(ready.Message, row.saysNot)) {
				t.Errorf("the message is %q", ready.Message)
			}
		})
	}
}

// TestAnAutoscalerIsLookedAtWhenItHasScaledToZero verifies that other changes of the status of an autoscaler, which are frequent, are ignored.
func TestAnAutoscalerIsLookedAtWhenItHasScaledToZero(t *testing.T) {
	later := atZero("")
	later.Status.CurrentReplicas, later.Status.Conditions[1].LastTransitionTime = 2, metav1.NewTime(start.Add(time.Minute))
	active := notAtZero()
	active.Status.Conditions[1].Status = corev1.ConditionTrue
	for _, row := range []struct {
		name          string
		before, after autoscalingv2.HorizontalPodAutoscaler
		looks         bool
	}{
		{"it scales to 0", notAtZero(), atZero(""), true},
		{"it scales up", atZero(""), notAtZero(), true},
		{"it loses its metrics at 0", atZero(""), atZero("FailedGetExternalMetric"), true},
		{"it repeats its check", atZero(""), later, false},
		{"it has metrics, and has not scaled to 0", notAtZero(), active, false},
	} {
		if got := observe.AutoscalerChanged.Update(event.UpdateEvent{ObjectOld: &row.before, ObjectNew: &row.after}); got != row.looks {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}
