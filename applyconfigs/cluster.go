package applyconfigs

import (
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// Cluster is what the pods depend on besides their MCPServer. None of it changes while a cluster and the Service for clients
// exist, so that it never restarts a pod.
type Cluster struct {
	// AssignsUsers is true where the cluster itself assigns the user and the groups of pods, from a range of each namespace, and
	// refuses others. OpenShift does, which is known by its API group SecurityAPIGroup.
	AssignsUsers bool
	// IPFamily is the first IP family of the Service for clients, which nobody can change. If unset, it is what
	// the MCPServer declares, or else IPv4.
	IPFamily corev1.IPFamily
}

// SecurityAPIGroup is the API group by which OpenShift is known.
const SecurityAPIGroup = "security.openshift.io"

// defaultUser is the user, the group and the group of the volumes of pods that say nothing about it. Many images name no user
// and would run as root, which the restricted Pod Security Standard forbids; nearly all of them work as any other. 1000 is
// what ToolHive gives them.
const defaultUser = 1000

// listenAddress is where a server has to listen, so that probes and Services reach it. "::" accepts both IP families with most
// servers, but fails on a node whose kernel has IPv6 turned off, and accepts IPv6 alone with Python's asyncio; therefore it
// is only for Services that are IPv6 in the first place.
func listenAddress(server *v1alpha1.MCPServer, cluster Cluster) string {
	family := cluster.IPFamily
	if service := server.Spec.Service; family == "" && service != nil && len(service.IPFamilies) > 0 {
		family = service.IPFamilies[0]
	}
	if family == corev1.IPv6Protocol {
		return "::"
	}
	return "0.0.0.0"
}
