package status

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

func autoscaler(name string, metrics ...autoscalingv2.MetricSpec) autoscalingv2.HorizontalPodAutoscaler {
	return autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: ptr.To[int32](1), MaxReplicas: 3, Metrics: metrics},
	}
}

func cpu(target autoscalingv2.MetricTargetType) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: target},
	}}
}

func cpuOf(container string) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
		Name: corev1.ResourceCPU, Container: container, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType},
	}}
}

func TestFindAutoscalerProblems(t *testing.T) {
	const utilization = autoscalingv2.UtilizationMetricType
	streaming := v1beta1.MCPServerSpec{Transport: v1beta1.TransportStreamableHTTP}
	forced := v1beta1.MCPServerSpec{
		Transport: v1beta1.TransportStreamableHTTP, Replicas: ptr.To[int32](2), ReplicasConflictPolicy: v1beta1.ReplicasConflictForce,
	}
	yielding := *forced.DeepCopy()
	yielding.ReplicasConflictPolicy = v1beta1.ReplicasConflictYield
	requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	none := corev1.Container{Name: "mcp"}
	requested := corev1.Container{Name: "mcp", Resources: corev1.ResourceRequirements{Requests: requests}}
	limited := corev1.Container{Name: "mcp", Resources: corev1.ResourceRequirements{Limits: requests}}
	sidecar := corev1.Container{Name: "sidecar"}
	fixed := autoscaler("fixed", cpu(utilization))
	fixed.Spec.MinReplicas = ptr.To[int32](3)
	keda := autoscaler("keda-hpa")
	keda.OwnerReferences = []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "mcp", Controller: ptr.To(true)}}
	type hpas = []autoscalingv2.HorizontalPodAutoscaler

	for _, row := range []struct {
		name        string
		spec        v1beta1.MCPServerSpec
		containers  []corev1.Container
		statefulSet hpas
		mcpServer   hpas
		reasons     []string
		says        string
	}{
		{"no autoscaler", forced, nil, nil, nil, nil, ""},
		{"one on a delegated scale", streaming, nil, hpas{autoscaler("web")}, nil, nil, ""},
		{"one on a declared scale that yields", yielding, nil, hpas{autoscaler("web")}, nil, nil, ""},
		{"one on the StatefulSet, against Force", forced, nil, hpas{autoscaler("web")}, nil, []string{reasonAutoscalerForced}, "remove spec.replicas"},
		{"one of KEDA's, against Force", forced, nil, hpas{keda}, nil, []string{reasonAutoscalerForced}, "ScaledObject/mcp"},
		{"one on the MCPServer, declared", forced, nil, nil, hpas{autoscaler("web")}, nil, ""},
		{"one on the MCPServer, not declared", streaming, nil, nil, hpas{autoscaler("web")}, []string{reasonAutoscalerUndeclared}, "set spec.replicas"},
		{"two on the StatefulSet", streaming, nil, hpas{autoscaler("a"), autoscaler("b")}, nil, []string{reasonAutoscalersCompete}, "delete all but one"},
		{"one on each", yielding, nil, hpas{autoscaler("a")}, hpas{autoscaler("b")}, []string{reasonAutoscalersCompete}, "HorizontalPodAutoscaler/a and HorizontalPodAutoscaler/b"},
		{"utilization without a request", streaming, []corev1.Container{none}, hpas{autoscaler("web", cpu(utilization))}, nil, []string{reasonAutoscalerNoRequest}, "set resources.requests.cpu"},
		{"utilization with a request", streaming, []corev1.Container{requested}, hpas{autoscaler("web", cpu(utilization))}, nil, nil, ""},
		{"utilization with a limit, which is the request then", streaming, []corev1.Container{limited}, hpas{autoscaler("web", cpu(utilization))}, nil, nil, ""},
		{"utilization, and an injected sidecar without a request", streaming, []corev1.Container{requested, sidecar}, hpas{autoscaler("web", cpu(utilization))}, nil, []string{reasonAutoscalerNoRequest}, `container "sidecar"`},
		{"utilization of one container, the other is without a request", streaming, []corev1.Container{requested, sidecar}, hpas{autoscaler("web", cpuOf("mcp"))}, nil, nil, ""},
		{"utilization of a container without a request", streaming, []corev1.Container{requested, sidecar}, hpas{autoscaler("web", cpuOf("sidecar"))}, nil, []string{reasonAutoscalerNoRequest}, `container "sidecar"`},
		{"an absolute value needs no request", streaming, []corev1.Container{none}, hpas{autoscaler("web", cpu(autoscalingv2.AverageValueMetricType))}, nil, nil, ""},
		{"a fixed number needs no metrics", streaming, []corev1.Container{none}, hpas{fixed}, nil, nil, ""},
		{"one on a stdio server", v1beta1.MCPServerSpec{}, nil, hpas{autoscaler("web")}, nil, nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: row.spec}
			set := &appsv1.StatefulSet{}
			set.Spec.Template.Spec.Containers = row.containers
			findings := findAutoscalerProblems(server, set, observe.Autoscalers{OfStatefulSet: row.statefulSet, OfMCPServer: row.mcpServer})
			var reasons, messages []string
			for _, found := range findings {
				reasons, messages = append(reasons, found.Reason), append(messages, found.Message)
			}
			if strings.Join(reasons, " ") != strings.Join(row.reasons, " ") {
				t.Errorf("found %q, wanted %q", reasons, row.reasons)
			}
			if !strings.Contains(strings.Join(messages, " "), row.says) {
				t.Errorf("%q does not say %q", messages, row.says)
			}
		})
	}
}
