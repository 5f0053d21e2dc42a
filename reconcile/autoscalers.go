package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// targetIndex is the index of autoscalers by what they scale: GROUP/KIND/NAME.
const targetIndex = "scaleTarget"

// indexAutoscalers makes the autoscalers of a target a lookup in the cache.
func indexAutoscalers(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, targetIndex,
		func(object client.Object) []string {
			hpa, ok := object.(*autoscalingv2.HorizontalPodAutoscaler)
			if !ok {
				return nil
			}
			return []string{targetOf(hpa)}
		})
	if err != nil {
		return fmt.Errorf("indexing the autoscalers: %w", err)
	}
	return nil
}

// targetOf names what an autoscaler scales. The version of the API does not matter.
func targetOf(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	ref := hpa.Spec.ScaleTargetRef
	return targetName(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind(), ref.Name)
}

func targetName(kind schema.GroupKind, name string) string {
	return kind.Group + "/" + kind.Kind + "/" + name
}

var (
	statefulSetKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet").GroupKind()
	mcpServerKind   = v1alpha1.GroupVersion.WithKind("MCPServer").GroupKind()
)

// autoscalers are the HorizontalPodAutoscalers that scale an MCPServer, by what they target; each in order of name.
type autoscalers struct {
	// ofStatefulSet write the scale of the StatefulSet.
	ofStatefulSet []autoscalingv2.HorizontalPodAutoscaler
	// ofMCPServer write spec.replicas of the MCPServer: they declare.
	ofMCPServer []autoscalingv2.HorizontalPodAutoscaler
}

// observeAutoscalers finds the autoscalers of an MCPServer.
func (r *Reconciler) observeAutoscalers(ctx context.Context, server *v1alpha1.MCPServer) (autoscalers, error) {
	find := func(kind schema.GroupKind, name string) ([]autoscalingv2.HorizontalPodAutoscaler, error) {
		var list autoscalingv2.HorizontalPodAutoscalerList
		err := r.Client.List(ctx, &list, client.InNamespace(server.Namespace),
			client.MatchingFields{targetIndex: targetName(kind, name)})
		if err != nil {
			return nil, fmt.Errorf("listing the autoscalers of %s %q: %w", kind.Kind, name, err)
		}
		slices.SortFunc(list.Items, func(a, b autoscalingv2.HorizontalPodAutoscaler) int {
			return strings.Compare(a.Name, b.Name)
		})
		return list.Items, nil
	}
	var found autoscalers
	var err error
	if found.ofStatefulSet, err = find(statefulSetKind, applyconfigs.StatefulSetName(server.Name)); err != nil {
		return found, err
	}
	found.ofMCPServer, err = find(mcpServerKind, server.Name)
	return found, err
}

// autoscalerName names an autoscaler as its user knows it: the ScaledObject, when KEDA made it for one.
func autoscalerName(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if isOfKEDA(hpa) {
		return "ScaledObject/" + metav1.GetControllerOf(hpa).Name
	}
	return "HorizontalPodAutoscaler/" + hpa.Name
}

// isOfKEDA reports whether KEDA made an autoscaler for a ScaledObject.
func isOfKEDA(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	owner := metav1.GetControllerOf(hpa)
	return owner != nil && isOf(owner, schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"})
}

// Reasons of the condition AutoscalerProblem.
const (
	reasonAutoscalerForced      = "AutoscalerAgainstForce"
	reasonAutoscalerUndeclared  = "AutoscalerOnUndeclared"
	reasonAutoscalersCompete    = "AutoscalersCompete"
	reasonAutoscalerNoRequest   = "AutoscalerWithoutRequest"
	reasonAutoscalerCannotScale = "AutoscalerCannotScaleOut"
)

// finding is something about an autoscaler that keeps it from doing what it is meant to. Nothing is written to it.
type finding struct {
	Reason  string
	Message string
}

// findAutoscalerProblems looks at the autoscalers of an MCPServer. Each finding has the fix in it.
func findAutoscalerProblems(server *v1alpha1.MCPServer, set *appsv1.StatefulSet, found autoscalers) []finding {
	var findings []finding
	add := func(reason, format string, args ...any) {
		findings = append(findings, finding{Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	every := append(slices.Clone(found.ofStatefulSet), found.ofMCPServer...)

	if len(every) > 1 {
		var names []string
		for i := range every {
			names = append(names, autoscalerName(&every[i]))
		}
		add(reasonAutoscalersCompete, "%s scale the same pods and undo each other: delete all but one",
			strings.Join(names, " and "))
	}
	if declaresByForce(server) {
		for i := range found.ofStatefulSet {
			add(reasonAutoscalerForced, "%s scales StatefulSet %q, which is put back to spec.replicas each time: "+
				"remove spec.replicas, or set replicasConflictPolicy to %s, or point the autoscaler at the MCPServer",
				autoscalerName(&found.ofStatefulSet[i]), applyconfigs.StatefulSetName(server.Name), v1alpha1.ReplicasConflictYield)
		}
	}
	if server.Spec.Replicas == nil {
		for i := range found.ofMCPServer {
			add(reasonAutoscalerUndeclared, "%s targets this MCPServer, whose scale cannot be read while spec.replicas is "+
				"left out: point it at StatefulSet %q, or set spec.replicas to a starting value",
				autoscalerName(&found.ofMCPServer[i]), applyconfigs.StatefulSetName(server.Name))
		}
	}
	for i := range every {
		if container, resource := missingRequest(&every[i], set); container != "" {
			add(reasonAutoscalerNoRequest, "%s scales by the utilization of %s, but container %q requests none: "+
				"set resources.requests.%s on it", autoscalerName(&every[i]), resource, container, resource)
		}
		if every[i].Spec.MaxReplicas > 1 && applyconfigs.Transport(server) == v1alpha1.TransportStdio {
			add(reasonAutoscalerCannotScale, "%s may scale to %d, but each pod of a server with transport %s is a process "+
				"of its own that no other pod can stand in for: set transport to %s, or maxReplicas to 1",
				autoscalerName(&every[i]), every[i].Spec.MaxReplicas, v1alpha1.TransportStdio, v1alpha1.TransportStreamableHTTP)
		}
	}
	return findings
}

func declaresByForce(server *v1alpha1.MCPServer) bool {
	return server.Spec.Replicas != nil && server.Spec.ReplicasConflictPolicy == v1alpha1.ReplicasConflictForce
}

// missingRequest returns the first container, in the template as it is, that does not request a resource by whose
// utilization an autoscaler scales. The autoscaler cannot compute a utilization of nothing.
func missingRequest(hpa *autoscalingv2.HorizontalPodAutoscaler, set *appsv1.StatefulSet) (container string, resource corev1.ResourceName) {
	// Minimum and maximum are enforced before metrics are looked at.
	needsMetrics := hpa.Spec.MinReplicas == nil || *hpa.Spec.MinReplicas != hpa.Spec.MaxReplicas
	if set == nil || !needsMetrics {
		return "", ""
	}
	for _, metric := range hpa.Spec.Metrics {
		var only string
		switch {
		case metric.Resource != nil && metric.Resource.Target.Type == autoscalingv2.UtilizationMetricType:
			resource = metric.Resource.Name
		case metric.ContainerResource != nil && metric.ContainerResource.Target.Type == autoscalingv2.UtilizationMetricType:
			resource, only = metric.ContainerResource.Name, metric.ContainerResource.Container
		default:
			continue
		}
		for i := range set.Spec.Template.Spec.Containers {
			c := &set.Spec.Template.Spec.Containers[i]
			if only != "" && c.Name != only {
				continue
			}
			if _, requested := c.Resources.Requests[resource]; requested {
				continue
			}
			if _, limited := c.Resources.Limits[resource]; !limited { // a limit without a request is the request
				return c.Name, resource
			}
		}
	}
	return "", ""
}
