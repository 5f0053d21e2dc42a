package applyconfigs

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"mcpserver-operator/crd/v1beta1"
)

// ClientService returns the apply configuration of the Service to which clients connect. It claims the type and the IP
// families only if the MCPServer declares them. It never claims the addresses, and claims the node port only if the MCPServer declares it. Routed is
// true if the pods have a runner, which makes session affinity superfluous.
func ClientService(server *v1beta1.MCPServer, fixed Fixed, routed bool) *corev1ac.ServiceApplyConfiguration {
	affinity := corev1.ServiceAffinityClientIP
	if routed {
		affinity = corev1.ServiceAffinityNone
	}
	spec := corev1ac.ServiceSpec().WithSessionAffinity(cmp.Or(server.Spec.SessionAffinity, affinity))
	if seconds := server.Spec.SessionAffinityTimeoutSeconds; seconds != nil {
		spec.WithSessionAffinityConfig(corev1ac.SessionAffinityConfig().
			WithClientIP(corev1ac.ClientIPConfig().WithTimeoutSeconds(*seconds)))
	}
	if from := server.Spec.Service; from != nil {
		if from.Type != "" {
			spec.WithType(from.Type)
		}
		spec.WithIPFamilies(from.IPFamilies...)
		switch len(from.IPFamilies) {
		case 0:
		case 1: // without the policy, a Service with two families would keep both
			spec.WithIPFamilyPolicy(corev1.IPFamilyPolicySingleStack)
		default:
			spec.WithIPFamilyPolicy(corev1.IPFamilyPolicyRequireDualStack)
		}
		spec.LoadBalancerClass = from.LoadBalancerClass
		spec.TrafficDistribution = from.TrafficDistribution
	}
	var overrides *v1beta1.MetadataOverrides
	if server.Spec.ResourceOverrides != nil {
		overrides = server.Spec.ResourceOverrides.ProxyService
	}
	client := service(server, fixed, ClientServiceName(server.Name), overrides, spec).WithLabels(map[string]string{ServiceLabel: "client"})
	if from := server.Spec.Service; from != nil {
		client.Spec.Ports[0].NodePort, client.Spec.Ports[0].AppProtocol = from.NodePort, from.AppProtocol
	}
	return client
}

// HeadlessService returns the apply configuration of the Service that is the serviceName of the StatefulSet. The Service
// publishes pods before they are ready, so that pods can find each other while they start.
func HeadlessService(server *v1beta1.MCPServer, fixed Fixed) *corev1ac.ServiceApplyConfiguration {
	var overrides *v1beta1.MetadataOverrides
	if server.Spec.ResourceOverrides != nil {
		overrides = server.Spec.ResourceOverrides.HeadlessService
	}
	return service(server, fixed, HeadlessServiceName(server.Name), overrides, corev1ac.ServiceSpec().
		WithClusterIP(corev1.ClusterIPNone).
		WithPublishNotReadyAddresses(true)).
		WithLabels(map[string]string{ServiceLabel: "headless"})
}

func service(
	server *v1beta1.MCPServer, fixed Fixed, name string, overrides *v1beta1.MetadataOverrides,
	spec *corev1ac.ServiceSpecApplyConfiguration,
) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(name, server.Namespace).
		WithLabels(labelsWith(server.Name, overrides)).
		WithAnnotations(annotationsOf(overrides)).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(spec.
			WithSelector(fixed.PodLabels).
			WithPorts(corev1ac.ServicePort().
				WithName(PortName).
				WithPort(ProxyPort(server)).
				WithProtocol(corev1.ProtocolTCP).
				WithTargetPort(intstr.FromString(PortName))))
}

// defaultProxyPort is the port to which clients connect if the MCPServer sets none.
const defaultProxyPort = 8080

// ProxyPort returns the port to which clients connect.
func ProxyPort(server *v1beta1.MCPServer) int32 {
	for _, port := range []*int32{server.Spec.ProxyPort, server.Spec.Port} {
		if port != nil {
			return *port
		}
	}
	return defaultProxyPort
}

// ContainerPort returns the port on which the server listens in its container. If mcpPort is unset, this is the port to
// which clients connect.
func ContainerPort(server *v1beta1.MCPServer) int32 {
	for _, port := range []*int32{server.Spec.McpPort, server.Spec.TargetPort} {
		if port != nil {
			return *port
		}
	}
	return ProxyPort(server)
}

// Transport returns the MCP transport of the server.
func Transport(server *v1beta1.MCPServer) v1beta1.Transport {
	return cmp.Or(server.Spec.Transport, v1beta1.TransportStdio)
}

// URL returns the URL to which clients connect. The name of the Service has no cluster domain, because clusters have different ones. The DNS
// resolver of a pod adds it.
func URL(server *v1beta1.MCPServer) string {
	path := "mcp"
	switch Transport(server) {
	case v1beta1.TransportSSE:
		path = "sse"
	case v1beta1.TransportStdio:
		if server.Spec.ProxyMode == v1beta1.ProxyModeSSE {
			path = "sse"
		}
	case v1beta1.TransportStreamableHTTP:
	}
	return fmt.Sprintf("http://%s.%s.svc:%d/%s",
		ClientServiceName(server.Name), server.Namespace, ProxyPort(server), path)
}
