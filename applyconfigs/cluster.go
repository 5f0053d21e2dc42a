package applyconfigs

import (
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/crd/v1beta1"
)

// Cluster has the properties of the cluster on which the pods depend. They do not change while the cluster and the Service
// for clients exist. They therefore never restart a pod.
type Cluster struct {
	// AssignsUsers is true if the cluster assigns the user and the groups of pods, from a range of the namespace, and refuses
	// other users. OpenShift does this. A cluster is OpenShift if it has the API group SecurityAPIGroup.
	AssignsUsers bool
	// IPFamily is the first IP family of the Service for clients, which is immutable. If unset, the first family that the
	// MCPServer declares, otherwise IPv4.
	IPFamily corev1.IPFamily
	// RunnerImage is the image with the runner that pods get in front of the server, by the revision of their pod template; empty if they get
	// none.
	RunnerImage string
}

// SecurityAPIGroup is the API group by which the operator recognizes OpenShift.
const SecurityAPIGroup = "security.openshift.io"

// defaultUser is the default of the user, the group and the fsGroup of the pods. Many images set no user and would run as
// root, which the restricted Pod Security Standard forbids. Nearly all of these images work as another user. ToolHive also
// uses 1000.
const defaultUser = 1000

// listenAddress returns the address on which a server must listen, so that probes and Services reach it. With "::", most
// servers accept both IP families. However, "::" fails on a node whose kernel has IPv6 turned off, and Python's asyncio then
// accepts IPv6 only. Therefore "::" is used only if the first IP family of the Service is IPv6.
func listenAddress(server *v1beta1.MCPServer, cluster Cluster) string {
	family := cluster.IPFamily
	if service := server.Spec.Service; family == "" && service != nil && len(service.IPFamilies) > 0 {
		family = service.IPFamilies[0]
	}
	if family == corev1.IPv6Protocol {
		return "::"
	}
	return "0.0.0.0"
}
