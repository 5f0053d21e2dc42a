package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MCPServer runs a Model Context Protocol server as a StatefulSet NAME, with a Service mcp-NAME-proxy for its clients
// and a headless Service mcp-NAME-headless that gives each pod a DNS name.
//
// The operator writes with server-side apply and owns only the fields it declares. The scale of the StatefulSet is
// yours: kubectl scale, a HorizontalPodAutoscaler, KEDA or a GitOps tool may set it, and it stays where they put it.
// See spec.replicas.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=mcpservers,shortName=mcp,categories=toolhive
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`,description="Pods that are ready, of the pods that the StatefulSet asks for"
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.scale.replicas`,description="The replicas that the StatefulSet asks for"
// +kubebuilder:printcolumn:name="Scale Owner",type=string,JSONPath=`.status.scale.owner`,description="Who decides the scale of the StatefulSet"
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`,description="Where clients connect"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`,priority=1,description="Summary of the conditions"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1,description="Reason of the condition Ready"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50",message="metadata.name must have at most 50 characters: the name of its headless Service, mcp-NAME-headless, may not be longer than 63"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.contains('.')",message="metadata.name must not contain a dot: it becomes part of the name of a Service, which may have only lower case letters, digits and dashes"
type MCPServer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// What to run. Unknown fields are refused, never silently ignored.
	// +required
	Spec MCPServerSpec `json:"spec"`

	// What was seen at the last pass of the operator.
	// +optional
	Status MCPServerStatus `json:"status,omitzero"`
}

// MCPServerList is a list of MCPServers.
//
// +kubebuilder:object:root=true
type MCPServerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPServer `json:"items"`
}

// MCPServerSpec is what a user asks for.
type MCPServerSpec struct {
	// The container image of the server, for example ghcr.io/example/server:1.2. It has to run as a user other than
	// root, because the pods meet the restricted Pod Security Standard.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('\\\\s')",message="must not contain white space"
	Image string `json:"image"`

	// The number of pods that you declare for the StatefulSet. Setting, leaving out and removing it are three different
	// things:
	//
	// Set: the operator scales the StatefulSet to this number, once, each time you set or change it, and takes the
	// scale over from whoever had it. If someone scales the StatefulSet afterwards, replicasConflictPolicy decides.
	//
	// Left out: the operator never writes the scale. A new StatefulSet starts with 1 pod, the default of Kubernetes;
	// after that kubectl scale, a HorizontalPodAutoscaler, KEDA or a GitOps tool owns it. To let an autoscaler decide,
	// leave replicas out and point the autoscaler at the StatefulSet.
	//
	// Removed after having been set: the number of pods stays what it is, and the operator gives up its claim, so that
	// the next writer meets no conflict.
	//
	// 0 stops the server. There is no default on purpose: a default would declare a number for you.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`

	// What happens when replicas is set and someone else scales the StatefulSet afterwards.
	//
	// Yield: whoever scaled last keeps the scale. The condition ScaleConflict says who holds it, at what value, and how
	// to get it back: change replicas, or switch to Force.
	//
	// Force: the declared number is put back, and an event names who had changed it.
	//
	// It has no effect while replicas is left out. Switching to Force takes the scale back; switching to Yield changes
	// nothing.
	// +optional
	// +kubebuilder:default=Yield
	ReplicasConflictPolicy ReplicasConflictPolicy `json:"replicasConflictPolicy,omitempty"`

	// How the server speaks MCP. It reaches the container as MCP_TRANSPORT and decides the path of status.url: /sse for
	// sse, /mcp otherwise. With stdio the container's standard input is kept open; the operator adds no proxy, so
	// clients can connect only if the image itself serves its stdio server over HTTP on mcpPort.
	// +optional
	// +kubebuilder:default=stdio
	Transport Transport `json:"transport,omitempty"`

	// The port of the Service mcp-NAME-proxy, where clients connect.
	// +optional
	// +kubebuilder:default=8080
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ProxyPort int32 `json:"proxyPort,omitempty"`

	// The port on which the server listens in its container. It reaches the container as MCP_PORT and FASTMCP_PORT.
	// Left out, it is proxyPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	McpPort *int32 `json:"mcpPort,omitempty"`

	// Arguments of the container, after the entrypoint of the image.
	// +optional
	// +listType=atomic
	Args []string `json:"args,omitempty"`

	// Environment variables of the container, as in a Pod; names are unique. One of the operator's own (MCP_TRANSPORT,
	// MCP_PORT, FASTMCP_PORT, MCP_HOST) is replaced by yours of the same name.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=512
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.name.size() > 0)",message="name must not be empty"
	Env []corev1.EnvVar `json:"env,omitempty"`
}

// ReplicasConflictPolicy says who keeps the scale when someone else scales after a declaration.
//
// +kubebuilder:validation:Enum=Yield;Force
type ReplicasConflictPolicy string

const (
	// ReplicasConflictYield leaves the scale with whoever scaled last. The default.
	ReplicasConflictYield ReplicasConflictPolicy = "Yield"
	// ReplicasConflictForce puts the declared number back.
	ReplicasConflictForce ReplicasConflictPolicy = "Force"
)

// Transport is a transport of the Model Context Protocol.
//
// +kubebuilder:validation:Enum=stdio;streamable-http;sse
type Transport string

const (
	// TransportStdio is a server that speaks over its standard input and output. The default.
	TransportStdio Transport = "stdio"
	// TransportStreamableHTTP is a server that speaks over streamable HTTP at /mcp.
	TransportStreamableHTTP Transport = "streamable-http"
	// TransportSSE is a server that speaks over HTTP with server-sent events at /sse.
	TransportSSE Transport = "sse"
)
