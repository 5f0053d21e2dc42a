package applyconfigs

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// ClientService returns the apply configuration of the Service that clients connect to. Its type and its addresses are
// not claimed: they are ClusterIP by default and whatever someone makes of them afterwards.
func ClientService(server *v1alpha1.MCPServer) *corev1ac.ServiceApplyConfiguration {
	return service(server, ClientServiceName(server.Name), corev1ac.ServiceSpec())
}

// HeadlessService returns the apply configuration of the Service that the StatefulSet names as its serviceName. It
// lists pods before they are ready, so that pods can find each other while they start.
func HeadlessService(server *v1alpha1.MCPServer) *corev1ac.ServiceApplyConfiguration {
	return service(server, HeadlessServiceName(server.Name), corev1ac.ServiceSpec().
		WithClusterIP(corev1.ClusterIPNone).
		WithPublishNotReadyAddresses(true))
}

func service(
	server *v1alpha1.MCPServer, name string, spec *corev1ac.ServiceSpecApplyConfiguration,
) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(name, server.Namespace).
		WithLabels(labels(server.Name)).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(spec.
			WithSelector(SelectorLabels(server.Name)).
			WithPorts(corev1ac.ServicePort().
				WithName(portName).
				WithPort(ProxyPort(server)).
				WithProtocol(corev1.ProtocolTCP).
				WithTargetPort(intstr.FromString(portName))))
}

// defaultProxyPort repeats the default of the schema, for an MCPServer that did not pass through an API server.
const defaultProxyPort = 8080

// ProxyPort returns the port on which clients connect.
func ProxyPort(server *v1alpha1.MCPServer) int32 {
	return cmp.Or(server.Spec.ProxyPort, defaultProxyPort)
}

// ContainerPort returns the port on which the server listens in its container: mcpPort, or else the port on which
// clients connect.
func ContainerPort(server *v1alpha1.MCPServer) int32 {
	if server.Spec.McpPort != nil {
		return *server.Spec.McpPort
	}
	return ProxyPort(server)
}

// Transport returns how the server speaks MCP.
func Transport(server *v1alpha1.MCPServer) v1alpha1.Transport {
	return cmp.Or(server.Spec.Transport, v1alpha1.TransportStdio)
}

// URL returns where clients connect.
func URL(server *v1alpha1.MCPServer) string {
	path := "mcp"
	if Transport(server) == v1alpha1.TransportSSE {
		path = "sse"
	}
	return fmt.Sprintf("http://%s.%s.svc.cluster.local:%d/%s",
		ClientServiceName(server.Name), server.Namespace, ProxyPort(server), path)
}
