package applyconfigs

import (
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// Cluster is what the pods depend on besides their MCPServer. None of it changes while a cluster exists, so that it never
// restarts a pod.
type Cluster struct {
	// AssignsUsers is true where the cluster itself assigns the user and the groups of pods, from a range of each namespace, and
	// refuses others. OpenShift does, which is known by its API group SecurityAPIGroup.
	AssignsUsers bool
	// IPv6First is true where a Service that does not name its IP families is an IPv6 Service.
	IPv6First bool
}

// SecurityAPIGroup is the API group by which OpenShift is known.
const SecurityAPIGroup = "security.openshift.io"

// defaultUser is the user, the group and the group of the volumes of pods that say nothing about it. Many images name no user
// and would run as root, which the restricted Pod Security Standard forbids; nearly all of them work as any other. 1000 is
// what ToolHive gives them.
const defaultUser = 1000

// listenAddress is where a server has to listen, so that probes and Services reach it. "::" accepts both IP families, but
// fails on a node whose kernel has IPv6 turned off; therefore it is only for Services that are IPv6 in the first place.
func listenAddress(server *v1alpha1.MCPServer, cluster Cluster) string {
	ipv6 := cluster.IPv6First
	if service := server.Spec.Service; service != nil && len(service.IPFamilies) > 0 {
		ipv6 = service.IPFamilies[0] == corev1.IPv6Protocol
	}
	if ipv6 {
		return "::"
	}
	return "0.0.0.0"
}
