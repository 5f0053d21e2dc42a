package v1beta1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// MCPServer runs a Model Context Protocol (MCP) server. The operator creates the StatefulSet NAME, the Service
// mcp-NAME-proxy, to which clients connect, and the headless Service mcp-NAME-headless, which gives each pod a DNS name.
// NAME must have at most 50 characters and must not contain a dot.
//
// The operator writes with server-side apply and owns only the fields that it applies. Other clients may set the other
// fields. In particular, kubectl scale, a HorizontalPodAutoscaler, KEDA or a GitOps tool may scale the StatefulSet, and
// the operator does not revert the scale. See spec.replicas.
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
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50",message="metadata.name must have at most 50 characters, because the name of the Service mcp-NAME-headless must have at most 63: use a shorter name"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.contains('.')",message="metadata.name must not contain a dot, because the name of a Service may contain only lower case letters, digits and dashes: use a dash instead"
type MCPServer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// The desired state of the server. Server-side apply, and clients with strict field validation such as kubectl, refuse
	// unknown fields.
	// +required
	Spec MCPServerSpec `json:"spec,omitzero"`

	// The state of the server as the operator last observed it. Until the operator writes the status for the first time,
	// observedGeneration is -1. Tools that follow the conventions of kstatus, such as Helm and Flux, therefore do not treat a new
	// MCPServer as ready.
	// +kubebuilder:default={"observedGeneration":-1}
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

// MCPServerSpec is the desired state of an MCPServer.
//
// +kubebuilder:validation:XValidation:rule="!has(self.port) || !has(self.proxyPort) || self.port == self.proxyPort",message="port is a deprecated alias of proxyPort, and their values differ: remove port",fieldPath=".port"
// +kubebuilder:validation:XValidation:rule="!has(self.targetPort) || !has(self.mcpPort) || self.targetPort == self.mcpPort",message="targetPort is a deprecated alias of mcpPort, and their values differ: remove targetPort",fieldPath=".targetPort"
// +kubebuilder:validation:XValidation:rule="!has(self.secrets) || !has(self.env) || self.secrets.all(s, !self.env.exists(e, e.name == (has(s.targetEnvName) ? s.targetEnvName : s.key)))",message="a secret and an entry of env set the same environment variable: remove one of them, or give the secret another targetEnvName",fieldPath=".secrets"
// +kubebuilder:validation:XValidation:rule="!has(self.sessionAffinityTimeoutSeconds) || !has(self.sessionAffinity) || self.sessionAffinity == 'ClientIP'",message="sessionAffinityTimeoutSeconds is valid only with sessionAffinity ClientIP: remove it, or set sessionAffinity to ClientIP",fieldPath=".sessionAffinityTimeoutSeconds"
// +kubebuilder:validation:XValidation:rule="!has(self.backendReplicas) || !has(self.replicas) || self.backendReplicas == self.replicas",message="backendReplicas is a deprecated alias of replicas, which is the number of pods of the server, and their values differ: remove backendReplicas, and set replicas to the number of pods of the server",fieldPath=".backendReplicas"
type MCPServerSpec struct {
	// The container image of the server, for example registry.example/server:1.2. Must not contain white space.
	//
	// The pods meet the restricted Pod Security Standard. The container runs as user 1000 and group 1000, whatever user the
	// image sets, and volumes belong to group 1000. On OpenShift, the cluster assigns the user and the groups. To run the
	// container as another user, set securityContext.runAsUser in podTemplateSpec. To run it as the user that the image sets,
	// set securityContext.runAsNonRoot to false in podTemplateSpec, without runAsUser.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('\\\\s')",message="must not contain white space: remove it"
	Image string `json:"image,omitempty"`

	// When the kubelet pulls the image: Always, IfNotPresent or Never. If unset, the default of Kubernetes, which depends on
	// the tag of the image.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// Secrets with the credentials to pull the image, in the namespace of the MCPServer. At most 64.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// The number of pods. Must be 0 or greater; 0 stops the server. The effect depends on whether the field is set:
	//
	// Set: the operator scales the StatefulSet to this number once, each time you set or change the field, and takes the
	// scale over from its previous owner. If another client scales the StatefulSet afterwards, replicasConflictPolicy
	// decides.
	//
	// Unset: the operator does not change the scale. A new StatefulSet starts with 1 pod, the default of Kubernetes.
	// Afterwards kubectl scale, a HorizontalPodAutoscaler, KEDA or a GitOps tool may own the scale. To use an autoscaler,
	// leave this field unset and let the autoscaler target the StatefulSet.
	//
	// Removed after it was set: the number of pods does not change. The operator gives up the ownership of the scale, so
	// that the next client that scales the StatefulSet meets no conflict.
	//
	// This field has no default, because a default would declare a number that you did not choose.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`

	// Deprecated: use replicas. ToolHive's operator scales its proxy to replicas, and the server to backendReplicas. If both are
	// set, they must be equal. Must be 0 or greater.
	// +optional
	// +kubebuilder:validation:Minimum=0
	BackendReplicas *int32 `json:"backendReplicas,omitempty"`

	// If true, the operator writes only the status of this MCPServer, and sets the condition Suspended. Pods keep running. When
	// you set the field to false again, the operator restores the fields that it owns. The scale follows the usual rules: see
	// replicas and replicasConflictPolicy. Defaults to false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// What the operator does if replicas is set and another client scales the StatefulSet afterwards. Defaults to Yield.
	//
	// Yield: the operator keeps the scale that the other client set. The condition ScaleConflict names the owner of the
	// scale and its value. To take the scale back, change replicas or set this field to Force.
	//
	// Force: the operator restores the declared number, and an event names the client that changed it. If this happens three
	// times within a minute, the operator waits before each further time: 10 seconds, doubling to 5 minutes.
	//
	// This field has no effect while replicas is unset. A change to Force takes the scale back. A change to Yield does not
	// change the scale.
	// +optional
	// +kubebuilder:default=Yield
	ReplicasConflictPolicy ReplicasConflictPolicy `json:"replicasConflictPolicy,omitempty"`

	// The MCP transport of the server: stdio, streamable-http or sse. Defaults to stdio. The operator passes it to the
	// container as MCP_TRANSPORT. The path of status.url depends on it: /sse for sse, /mcp for streamable-http. For stdio,
	// see proxyMode.
	//
	// With streamable-http and sse, the server listens on mcpPort. With stdio, a runner in the pod starts a process of the server for each
	// session, and serves it over HTTP: see sessions. It needs the command of the server: that of command, of the container mcp in
	// podTemplateSpec, or of the image, which the operator reads from its registry.
	//
	// If sessions.mode is Direct, or the operator has no runner, the standard input of a stdio server stays open, and clients can connect only
	// if something in the pod serves the server over HTTP on mcpPort. A readiness probe connects to this port.
	// +optional
	// +kubebuilder:default=stdio
	Transport Transport `json:"transport,omitempty"`

	// The HTTP transport by which a stdio server is served to clients: sse or streamable-http. If unset,
	// streamable-http. The path of status.url depends on it: /sse for sse, /mcp for streamable-http. Ignored unless transport
	// is stdio.
	// +optional
	ProxyMode ProxyMode `json:"proxyMode,omitempty"`

	// The port of the Service mcp-NAME-proxy, to which clients connect. Must be from 1 to 65535. If unset, 8080.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ProxyPort *int32 `json:"proxyPort,omitempty"`

	// Deprecated: use proxyPort. If both are set, they must be equal.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// The port on which the server listens in its container. Must be from 1 to 65535. The operator passes it to the container
	// as MCP_PORT and FASTMCP_PORT. If unset, the value of proxyPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	McpPort *int32 `json:"mcpPort,omitempty"`

	// Deprecated: use mcpPort. If both are set, they must be equal.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TargetPort *int32 `json:"targetPort,omitempty"`

	// The command of the container. If unset, the entrypoint of the image. At most 256 entries.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Command []string `json:"command,omitempty"`

	// The arguments of the command, or of the entrypoint of the image. At most 512.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=512
	Args []string `json:"args,omitempty"`

	// Environment variables of the container, as in a Pod. Names must be unique. At most 512.
	//
	// The operator sets MCP_TRANSPORT, MCP_PORT, FASTMCP_PORT, MCP_HOST and FASTMCP_HOST. A variable with the same name in env
	// or secrets replaces the variable of the operator. MCP_HOST and FASTMCP_HOST are the address to listen on: "::" if the
	// first IP family of the Service mcp-NAME-proxy is IPv6, otherwise 0.0.0.0.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=512
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.name.size() > 0)",message="name must not be empty"
	Env []corev1.EnvVar `json:"env,omitempty"`

	// ConfigMaps and Secrets whose keys become environment variables of the container, as in a Pod. At most 64.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	EnvFrom []corev1.EnvFromSource `json:"envFrom,omitempty"`

	// Keys of Secrets that become environment variables of the container. No two of them, and no entry of env, may set the
	// same variable. The operator does not read the Secrets. At most 64.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +listMapKey=key
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, (has(b.targetEnvName) ? b.targetEnvName : b.key) == (has(a.targetEnvName) ? a.targetEnvName : a.key)))",message="two entries of secrets set the same environment variable: give one of them another targetEnvName"
	Secrets []SecretRef `json:"secrets,omitempty"`

	// Volumes of the pods, and the paths at which the container mounts them. Names and paths must be unique. At most 64.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.mountPath == a.mountPath))",message="two volumes have the same mountPath: give one of them another mountPath"
	Volumes []Volume `json:"volumes,omitempty"`

	// PersistentVolumeClaims created for each pod, as in a StatefulSet. Names must be unique. At most 16. To mount them, add
	// volumeMounts with their names to the container in podTemplateSpec.
	//
	// The volumeClaimTemplates of a StatefulSet are immutable. If you change this field, the operator sets the
	// condition Stalled. The message of the condition has the steps that keep the pods and the volumes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.metadata.name == a.metadata.name))",message="two volumeClaimTemplates have the same metadata.name: rename one of them"
	VolumeClaimTemplates []VolumeClaimTemplate `json:"volumeClaimTemplates,omitempty"`

	// Whether the claims of volumeClaimTemplates are deleted when the StatefulSet is deleted (whenDeleted) or scaled down
	// (whenScaled), as in a StatefulSet: Retain or Delete. If unset, Retain.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(!has(self.whenDeleted) || self.whenDeleted in ['Retain', 'Delete']) && (!has(self.whenScaled) || self.whenScaled in ['Retain', 'Delete'])",message="whenDeleted and whenScaled must be Retain or Delete"
	PersistentVolumeClaimRetentionPolicy *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy `json:"persistentVolumeClaimRetentionPolicy,omitempty"`

	// The requests and limits of the container for CPU, memory and other resources, as in a Pod. If podTemplateSpec sets resources of
	// the container mcp, they replace this field as a whole.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// The name of the ServiceAccount of the pods, in the namespace of the MCPServer. If unset, the operator creates the
	// ServiceAccount mcp-NAME, which has no permissions. Pods then get no token.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccount *string `json:"serviceAccount,omitempty"`

	// What the server may reach over the network. If unset, the operator creates no NetworkPolicy.
	// +optional
	PermissionProfile *PermissionProfile `json:"permissionProfile,omitempty"`

	// A partial pod template, as in a StatefulSet. The operator merges it into its own pod template by the rules of
	// server-side apply. Your value replaces the value of the operator. Entries of a list that have the same key, such as the
	// name of a container, are merged. The container of the server is named mcp.
	//
	// The labels app.kubernetes.io/name, app.kubernetes.io/instance and app.kubernetes.io/managed-by are set by the operator
	// and must not be set here.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:XValidation:rule="!has(self.metadata) || !has(self.metadata.labels) || !('app.kubernetes.io/name' in self.metadata.labels || 'app.kubernetes.io/instance' in self.metadata.labels || 'app.kubernetes.io/managed-by' in self.metadata.labels)",message="the labels app.kubernetes.io/name, instance and managed-by are set by the operator: remove them, and use others",fieldPath=".metadata.labels"
	PodTemplateSpec *runtime.RawExtension `json:"podTemplateSpec,omitempty"`

	// Additional labels and annotations of the objects that the operator creates.
	// +optional
	ResourceOverrides *ResourceOverrides `json:"resourceOverrides,omitempty"`

	// The session affinity of the Service mcp-NAME-proxy. ClientIP: the connections from one client address reach the same
	// pod. None: each connection may reach another pod. If unset, ClientIP.
	// +optional
	// +kubebuilder:validation:Enum=ClientIP;None
	SessionAffinity corev1.ServiceAffinity `json:"sessionAffinity,omitempty"`

	// The time in seconds for which the connections from one client address reach the same pod. Must be from 1 to 86400 (one
	// day). Requires sessionAffinity ClientIP. If unset, the default of Kubernetes: 10800 (3 hours).
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	SessionAffinityTimeoutSeconds *int32 `json:"sessionAffinityTimeoutSeconds,omitempty"`

	// Settings of the Service mcp-NAME-proxy: its type, IP families, load balancer and traffic distribution.
	// +optional
	Service *ClientService `json:"service,omitempty"`

	// The number of pods that may be evicted at the same time, for example while a node is drained. If unset, the operator
	// creates a PodDisruptionBudget with maxUnavailable 1.
	// +optional
	PodDisruptionBudget *PodDisruptionBudget `json:"podDisruptionBudget,omitempty"`

	// How the StatefulSet replaces its pods when the pod template changes, as in a StatefulSet: RollingUpdate or OnDelete. If
	// unset, the default of Kubernetes: RollingUpdate.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type in ['RollingUpdate', 'OnDelete']",message="type must be RollingUpdate or OnDelete",fieldPath=".type"
	UpdateStrategy *appsv1.StatefulSetUpdateStrategy `json:"updateStrategy,omitempty"`

	// The time in seconds for which a new pod must be ready before it counts as available. Must be 0 or greater. If unset, 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`

	// The time in seconds that a pod has to stop before it is killed. Must be 0 or greater. If unset, the default of
	// Kubernetes: 30.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// How the scheduler spreads the pods, as in a Pod. At most 16. A constraint without a labelSelector selects the pods of
	// this MCPServer. If unset, the pods are spread over hosts and zones if possible (ScheduleAnyway). An empty list turns the
	// spreading off.
	// +optional
	// +listType=map
	// +listMapKey=topologyKey
	// +listMapKey=whenUnsatisfiable
	// +kubebuilder:validation:MaxItems=16
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// How the sessions of clients are served when there is more than one pod, and when a pod is lost.
	// +optional
	Sessions *Sessions `json:"sessions,omitempty"`

	// The log of the requests of clients. The runner writes it, so it has an effect only if the pods have a runner: see sessions. A change
	// restarts the pods.
	// +optional
	Audit *Audit `json:"audit,omitempty"`

	IgnoredFields `json:",inline"`
	RefusedFields `json:",inline"`
}

// DeclaredReplicas returns the declared number of pods; nil if none is declared.
func (s *MCPServerSpec) DeclaredReplicas() *int32 {
	if s.Replicas != nil {
		return s.Replicas
	}
	return s.BackendReplicas
}

// ReplicasConflictPolicy is what the operator does if replicas is set and another client scales the StatefulSet afterwards.
//
// +kubebuilder:validation:Enum=Yield;Force
type ReplicasConflictPolicy string

const (
	// ReplicasConflictYield keeps the scale that the other client set. The default.
	ReplicasConflictYield ReplicasConflictPolicy = "Yield"
	// ReplicasConflictForce restores the declared number.
	ReplicasConflictForce ReplicasConflictPolicy = "Force"
)

// Transport is a transport of MCP.
//
// +kubebuilder:validation:Enum=stdio;streamable-http;sse
type Transport string

const (
	// TransportStdio is MCP over the standard input and output of the server. The default.
	TransportStdio Transport = "stdio"
	// TransportStreamableHTTP is MCP over streamable HTTP at /mcp.
	TransportStreamableHTTP Transport = "streamable-http"
	// TransportSSE is MCP over HTTP with server-sent events at /sse.
	TransportSSE Transport = "sse"
)

// ProxyMode is the HTTP transport by which a stdio server is served to clients.
//
// +kubebuilder:validation:Enum=sse;streamable-http
type ProxyMode string

const (
	// ProxyModeSSE serves HTTP with server-sent events at /sse.
	ProxyModeSSE ProxyMode = "sse"
	// ProxyModeStreamableHTTP serves streamable HTTP at /mcp. The default.
	ProxyModeStreamableHTTP ProxyMode = "streamable-http"
)
