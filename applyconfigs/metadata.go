package applyconfigs

import (
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"mcpserver-operator/crd/v1beta1"
)

// FieldManager is the name of the field manager with which the operator applies. managedFields records it: see
// "kubectl get statefulset NAME --show-managed-fields -o yaml".
const FieldManager = "mcpserver-operator"

// StatefulSetName returns the name of the StatefulSet of an MCPServer.
func StatefulSetName(server string) string { return server }

// ClientServiceName returns the name of the Service to which the clients of an MCPServer connect.
func ClientServiceName(server string) string { return "mcp-" + server + "-proxy" }

// HeadlessServiceName returns the name of the Service that gives each pod of an MCPServer a DNS name.
func HeadlessServiceName(server string) string { return "mcp-" + server + "-headless" }

// ServiceAccountName returns the name of the ServiceAccount that the operator creates if spec.serviceAccount is unset.
func ServiceAccountName(server string) string { return "mcp-" + server }

// NetworkPolicyName returns the name of the NetworkPolicy of an MCPServer.
func NetworkPolicyName(server string) string { return "mcp-" + server }

// PodDisruptionBudgetName returns the name of the PodDisruptionBudget of an MCPServer.
func PodDisruptionBudgetName(server string) string { return "mcp-" + server }

// ServerLabel is the label of the pods and of their PersistentVolumeClaims that has the name of the MCPServer.
const ServerLabel = "toolhive.stacklok.dev/mcpserver"

// SelectorLabels returns the labels that select the pods of a new StatefulSet. The selector of a StatefulSet is immutable, and its controller
// copies these labels to PersistentVolumeClaims. They do not include app.kubernetes.io/instance, by which Argo CD may track the resources of an
// Application: an Application with the name of the MCPServer would prune the claims.
func SelectorLabels(server string) map[string]string { return map[string]string{ServerLabel: server} }

// ManagedByLabel is the label of all children and pods that has the value FieldManager.
const ManagedByLabel = "app.kubernetes.io/managed-by"

// ServiceLabel is the label of the Services of an MCPServer, which have the same labels otherwise. It is "client" for the Service to which
// clients connect, and "headless" for the other. It selects one of them, for example in a ServiceMonitor.
const ServiceLabel = "toolhive.stacklok.dev/service"

// nameLabels returns the labels that identify an MCPServer in all children and pods.
func nameLabels(server string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     "mcpserver",
		"app.kubernetes.io/instance": server,
	}
}

// labels returns the labels of all children and pods.
func labels(server string) map[string]string {
	all := nameLabels(server)
	all[ManagedByLabel] = FieldManager
	return all
}

// controllerReference makes the MCPServer the controller of a child, so that the child is deleted with the MCPServer. The
// kind and the version come from the API package, because typed clients leave them out of the object.
func controllerReference(server *v1beta1.MCPServer) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1beta1.GroupVersion.String()).
		WithKind("MCPServer").
		WithName(server.Name).
		WithUID(server.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}
