package status

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// finding is a problem that prevents an autoscaler from working. The operator does not write to autoscalers.
type finding struct {
	Reason  string
	Message string
}

// findAutoscalerProblems checks the autoscalers of an MCPServer. The message of each finding includes the fix.
func findAutoscalerProblems(server *v1beta1.MCPServer, set *appsv1.StatefulSet, found observe.Autoscalers) []finding {
	var findings []finding
	add := func(reason, format string, args ...any) {
		findings = append(findings, finding{Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	every := append(slices.Clone(found.OfStatefulSet), found.OfMCPServer...)

	if len(every) > 1 {
		var names []string
		for i := range every {
			names = append(names, scale.AutoscalerName(&every[i]))
		}
		add(reasonAutoscalersCompete, "%s scale the same pods and override each other: delete all but one",
			strings.Join(names, " and "))
	}
	if declaresByForce(server) {
		for i := range found.OfStatefulSet {
			add(reasonAutoscalerForced, "%s scales StatefulSet %q, and the operator resets it to spec.replicas each time: "+
				"remove spec.replicas, or set replicasConflictPolicy to %s, or point the autoscaler at the MCPServer",
				scale.AutoscalerName(&found.OfStatefulSet[i]), applyconfigs.StatefulSetName(server.Name), v1beta1.ReplicasConflictYield)
		}
	}
	if server.Spec.Replicas == nil { // the subresource scale has only this field
		for i := range found.OfMCPServer {
			add(reasonAutoscalerUndeclared, "%s targets this MCPServer, but cannot read its scale while spec.replicas is "+
				"unset: point the autoscaler at StatefulSet %q, or set spec.replicas to an initial value",
				scale.AutoscalerName(&found.OfMCPServer[i]), applyconfigs.StatefulSetName(server.Name))
		}
	}
	for i := range every {
		if container, resource := missingRequest(&every[i], set); container != "" {
			add(reasonAutoscalerNoRequest, "%s scales by the utilization of %s, but container %q does not request it: "+
				"set resources.requests.%s on this container", scale.AutoscalerName(&every[i]), resource, container, resource)
		}
	}
	return findings
}

func declaresByForce(server *v1beta1.MCPServer) bool {
	return server.Spec.DeclaredReplicas() != nil && server.Spec.ReplicasConflictPolicy == v1beta1.ReplicasConflictForce
}

// missingRequest returns the first container of the live template without a request for a resource by whose utilization an autoscaler
// scales. Without a request, the autoscaler cannot compute a utilization.
func missingRequest(hpa *autoscalingv2.HorizontalPodAutoscaler, set *appsv1.StatefulSet) (container string, resource corev1.ResourceName) {
	// The autoscaler enforces its minimum and maximum even without metrics.
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
			if _, limited := c.Resources.Limits[resource]; !limited { // the request defaults to the limit
				return c.Name, resource
			}
		}
	}
	return "", ""
}
