package applyconfigs

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"mcpserver-operator/crd/v1beta1"
)

// WantsNetworkPolicy reports whether an MCPServer needs a NetworkPolicy.
func WantsNetworkPolicy(server *v1beta1.MCPServer) bool {
	profile := server.Spec.PermissionProfile
	return profile != nil && profile.Name == v1beta1.PermissionProfileNone
}

// NetworkPolicy returns the apply configuration of the NetworkPolicy of an MCPServer; nil if it needs none.
func NetworkPolicy(server *v1beta1.MCPServer, fixed Fixed) *networkingv1ac.NetworkPolicyApplyConfiguration {
	if !WantsNetworkPolicy(server) {
		return nil
	}
	port := func(protocol corev1.Protocol) *networkingv1ac.NetworkPolicyPortApplyConfiguration {
		return networkingv1ac.NetworkPolicyPort().WithProtocol(protocol).WithPort(intstr.FromInt32(53))
	}
	return networkingv1ac.NetworkPolicy(NetworkPolicyName(server.Name), server.Namespace).
		WithLabels(labels(server.Name)).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(networkingv1ac.NetworkPolicySpec().
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(fixed.PodLabels)).
			WithPolicyTypes(networkingv1.PolicyTypeEgress).
			// To any address: the DNS server runs on the node in some clusters, and in a namespace in others.
			WithEgress(networkingv1ac.NetworkPolicyEgressRule().
				WithPorts(port(corev1.ProtocolUDP), port(corev1.ProtocolTCP))))
}

// WantsPodDisruptionBudget reports whether an MCPServer needs a PodDisruptionBudget.
func WantsPodDisruptionBudget(server *v1beta1.MCPServer) bool {
	return server.Spec.PodDisruptionBudget == nil || !server.Spec.PodDisruptionBudget.Disabled
}

// PodDisruptionBudget returns the apply configuration of the PodDisruptionBudget of an MCPServer; nil if it needs none.
func PodDisruptionBudget(server *v1beta1.MCPServer, fixed Fixed) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	if !WantsPodDisruptionBudget(server) {
		return nil
	}
	spec := policyv1ac.PodDisruptionBudgetSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(fixed.PodLabels)).
		// A pod that is not ready must not block the drain of a node.
		WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow)
	if budget := server.Spec.PodDisruptionBudget; budget != nil {
		spec.MaxUnavailable, spec.MinAvailable = budget.MaxUnavailable, budget.MinAvailable
	}
	if spec.MaxUnavailable == nil && spec.MinAvailable == nil {
		spec.WithMaxUnavailable(intstr.FromInt32(1))
	}
	return policyv1ac.PodDisruptionBudget(PodDisruptionBudgetName(server.Name), server.Namespace).
		WithLabels(labels(server.Name)).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(spec)
}

// WantsServiceAccount reports whether the operator creates a ServiceAccount for an MCPServer: spec.serviceAccount is unset, or
// is the name of that ServiceAccount.
func WantsServiceAccount(server *v1beta1.MCPServer) bool {
	return serviceAccountName(server) == ServiceAccountName(server.Name)
}

// ServiceAccount returns the apply configuration of the ServiceAccount of an MCPServer; nil if the operator creates none. The
// ServiceAccount has no permissions, and its pods get no token.
func ServiceAccount(server *v1beta1.MCPServer) *corev1ac.ServiceAccountApplyConfiguration {
	if !WantsServiceAccount(server) {
		return nil
	}
	return corev1ac.ServiceAccount(ServiceAccountName(server.Name), server.Namespace).
		WithLabels(labels(server.Name)).
		WithOwnerReferences(controllerReference(server)).
		WithAutomountServiceAccountToken(false)
}

// serviceAccountName returns the name of the ServiceAccount of the pods.
func serviceAccountName(server *v1beta1.MCPServer) string {
	if name := server.Spec.ServiceAccount; name != nil {
		return *name
	}
	return ServiceAccountName(server.Name)
}
