package applyconfigs

import (
	"maps"

	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// FieldManager is the name under which the operator applies. It is what managedFields records; see
// "kubectl get statefulset NAME --show-managed-fields -o yaml".
const FieldManager = "mcpserver-operator"

// StatefulSetName returns the name of the StatefulSet of an MCPServer.
func StatefulSetName(server string) string { return server }

// ClientServiceName returns the name of the Service that the clients of an MCPServer connect to.
func ClientServiceName(server string) string { return "mcp-" + server + "-proxy" }

// HeadlessServiceName returns the name of the Service that gives each pod of an MCPServer a DNS name.
func HeadlessServiceName(server string) string { return "mcp-" + server + "-headless" }

// ServiceAccountName returns the name of the ServiceAccount that is made for an MCPServer that names none.
func ServiceAccountName(server string) string { return "mcp-" + server }

// NetworkPolicyName returns the name of the NetworkPolicy of an MCPServer.
func NetworkPolicyName(server string) string { return "mcp-" + server }

// PodDisruptionBudgetName returns the name of the PodDisruptionBudget of an MCPServer.
func PodDisruptionBudgetName(server string) string { return "mcp-" + server }

// SelectorLabels returns the labels that select the pods of an MCPServer. They are immutable in a StatefulSet.
func SelectorLabels(server string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     "mcpserver",
		"app.kubernetes.io/instance": server,
	}
}

// ManagedByLabel is the label, with the value FieldManager, of every child and of the pods.
const ManagedByLabel = "app.kubernetes.io/managed-by"

// labels returns the labels that every child carries. They include the selector labels.
func labels(server string) map[string]string {
	all := maps.Clone(SelectorLabels(server))
	all[ManagedByLabel] = FieldManager
	return all
}

// controllerReference makes the MCPServer the controller of a child, so that deleting the MCPServer deletes the child.
// Kind and version come from the API package: an object that a typed client has read does not carry them.
func controllerReference(server *v1alpha1.MCPServer) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("MCPServer").
		WithName(server.Name).
		WithUID(server.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}
