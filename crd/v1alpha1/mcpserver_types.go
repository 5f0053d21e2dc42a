package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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

	// What was seen at the last pass of the operator. Before the first, observedGeneration is -1, so that tools which wait by
	// the conventions of kstatus, such as Helm and Flux, do not take an MCPServer that nobody has looked at for ready.
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

// MCPServerSpec is what a user asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.port) || !has(self.proxyPort) || self.port == self.proxyPort",message="port is a deprecated alias of proxyPort, and the two differ: remove port",fieldPath=".port"
// +kubebuilder:validation:XValidation:rule="!has(self.targetPort) || !has(self.mcpPort) || self.targetPort == self.mcpPort",message="targetPort is a deprecated alias of mcpPort, and the two differ: remove targetPort",fieldPath=".targetPort"
// +kubebuilder:validation:XValidation:rule="!has(self.secrets) || !has(self.env) || self.secrets.all(s, !self.env.exists(e, e.name == (has(s.targetEnvName) ? s.targetEnvName : s.key)))",message="a secret and an entry of env set the same environment variable: remove one, or give the secret another targetEnvName",fieldPath=".secrets"
// +kubebuilder:validation:XValidation:rule="!has(self.sessionAffinityTimeoutSeconds) || !has(self.sessionAffinity) || self.sessionAffinity == 'ClientIP'",message="sessionAffinityTimeoutSeconds counts only with sessionAffinity ClientIP: remove it, or set sessionAffinity to ClientIP",fieldPath=".sessionAffinityTimeoutSeconds"
type MCPServerSpec struct {
	// The container image of the server, for example ghcr.io/example/server:1.2. The pods meet the restricted Pod Security
	// Standard: the image runs as user and group 1000, whatever its own user is, and volumes belong to group 1000. On OpenShift
	// the cluster assigns the user. To run it as another user, set securityContext in podTemplateSpec; with runAsNonRoot: false
	// and no runAsUser it runs as its own user.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('\\\\s')",message="must not contain white space"
	Image string `json:"image"`

	// When the image is pulled: Always, IfNotPresent or Never. Left out, Kubernetes decides by the tag of the image.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// Secrets in the namespace with which the image is pulled.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

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

	// If true, the operator writes nothing for this MCPServer but its status, which has the condition Suspended meanwhile. Pods keep
	// running. What was changed by hand meanwhile is put back when it is set to false again; the scale is left where it is, unless
	// replicas have been changed. Defaults to false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

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
	// sse, /mcp otherwise. A server that speaks over HTTP (streamable-http, sse) is probed on its port. With stdio the
	// container's standard input is kept open; the operator adds no proxy, so clients can connect only if the image
	// itself serves its stdio server over HTTP on mcpPort.
	// +optional
	// +kubebuilder:default=stdio
	Transport Transport `json:"transport,omitempty"`

	// How the image of a stdio server serves it to clients: sse or streamable-http, the default. It decides the path of
	// status.url. Ignored with the other transports.
	// +optional
	ProxyMode ProxyMode `json:"proxyMode,omitempty"`

	// The port of the Service mcp-NAME-proxy, where clients connect. Left out, it is 8080.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ProxyPort *int32 `json:"proxyPort,omitempty"`

	// Deprecated: the former name of proxyPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// The port on which the server listens in its container. It reaches the container as MCP_PORT and FASTMCP_PORT.
	// Left out, it is proxyPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	McpPort *int32 `json:"mcpPort,omitempty"`

	// Deprecated: the former name of mcpPort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TargetPort *int32 `json:"targetPort,omitempty"`

	// What the container runs instead of the entrypoint of the image.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`

	// Arguments of the container, after its command or the entrypoint of the image.
	// +optional
	// +listType=atomic
	Args []string `json:"args,omitempty"`

	// Environment variables of the container, as in a Pod; names are unique. The operator sets MCP_TRANSPORT, MCP_PORT,
	// FASTMCP_PORT, MCP_HOST and FASTMCP_HOST. A variable of yours with the same name replaces the operator's. MCP_HOST and
	// FASTMCP_HOST are the address to listen on: "::" if the first IP family of the Service mcp-NAME-proxy is IPv6, otherwise
	// 0.0.0.0.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=512
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.name.size() > 0)",message="name must not be empty"
	Env []corev1.EnvVar `json:"env,omitempty"`

	// ConfigMaps and Secrets whose keys become environment variables of the container, as in a Pod.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	EnvFrom []corev1.EnvFromSource `json:"envFrom,omitempty"`

	// Keys of Secrets that become environment variables of the container. The operator refers to them and never reads
	// them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +listMapKey=key
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, (has(b.targetEnvName) ? b.targetEnvName : b.key) == (has(a.targetEnvName) ? a.targetEnvName : a.key)))",message="two secrets set the same environment variable: give one of them another targetEnvName"
	Secrets []SecretRef `json:"secrets,omitempty"`

	// Volumes, and where the container mounts them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.mountPath == a.mountPath))",message="two of them have the same mountPath"
	Volumes []Volume `json:"volumes,omitempty"`

	// Claims of storage that each pod gets one of its own of, as in a StatefulSet. The container mounts them by name
	// through podTemplateSpec. They cannot be changed in place: see the condition Stalled for the way that keeps pods and
	// volumes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.metadata.name == a.metadata.name))",message="two of them have the same metadata.name"
	VolumeClaimTemplates []VolumeClaimTemplate `json:"volumeClaimTemplates,omitempty"`

	// What happens with the claims of volumeClaimTemplates when the StatefulSet is deleted or scaled down, as in a
	// StatefulSet. Left out, they are retained.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(!has(self.whenDeleted) || self.whenDeleted in ['Retain', 'Delete']) && (!has(self.whenScaled) || self.whenScaled in ['Retain', 'Delete'])",message="whenDeleted and whenScaled are Retain or Delete"
	PersistentVolumeClaimRetentionPolicy *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy `json:"persistentVolumeClaimRetentionPolicy,omitempty"`

	// CPU, memory and other resources that the container requests and is limited to, as in a Pod.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// The ServiceAccount that the pods run as. Left out, one is made for this MCPServer, without permissions and without
	// a token in the pods.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccount *string `json:"serviceAccount,omitempty"`

	// What the server may reach over the network. Left out, the operator makes no NetworkPolicy.
	// +optional
	PermissionProfile *PermissionProfile `json:"permissionProfile,omitempty"`

	// Your own part of the template of the pods, as in a StatefulSet. It is merged with that of the operator as
	// server-side apply would: what you set wins, and an entry of a list with the same name or key is merged. The
	// container of the server is named mcp.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:XValidation:rule="!has(self.metadata) || !has(self.metadata.labels) || !('app.kubernetes.io/name' in self.metadata.labels || 'app.kubernetes.io/instance' in self.metadata.labels || 'app.kubernetes.io/managed-by' in self.metadata.labels)",message="the labels app.kubernetes.io/name, instance and managed-by select the pods, and are set by the operator: use others",fieldPath=".metadata.labels"
	PodTemplateSpec *runtime.RawExtension `json:"podTemplateSpec,omitempty"`

	// Labels and annotations of the objects that the operator makes.
	// +optional
	ResourceOverrides *ResourceOverrides `json:"resourceOverrides,omitempty"`

	// Whether the connections of a client reach the same pod: ClientIP, the default, or None.
	// +optional
	// +kubebuilder:validation:Enum=ClientIP;None
	SessionAffinity corev1.ServiceAffinity `json:"sessionAffinity,omitempty"`

	// For how long the connections of a client reach the same pod, in seconds, at most one day. Left out, it is the
	// default of Kubernetes, 3 hours.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	SessionAffinityTimeoutSeconds *int32 `json:"sessionAffinityTimeoutSeconds,omitempty"`

	// How the Service mcp-NAME-proxy is reached.
	// +optional
	Service *ClientService `json:"service,omitempty"`

	// How many pods may be evicted at a time, for example while a node is drained. Left out, it is 1.
	// +optional
	PodDisruptionBudget *PodDisruptionBudget `json:"podDisruptionBudget,omitempty"`

	// How the pods are replaced when their template changes, as in a StatefulSet.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type in ['RollingUpdate', 'OnDelete']",message="type is RollingUpdate or OnDelete",fieldPath=".type"
	UpdateStrategy *appsv1.StatefulSetUpdateStrategy `json:"updateStrategy,omitempty"`

	// For how many seconds a pod has to be ready until it counts as available. Left out, it is 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`

	// For how many seconds a pod that is told to stop may go on. Left out, it is the default of Kubernetes, 30.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// How the pods are spread, as in a Pod; without a labelSelector, the pods of this MCPServer are meant. Left out, they
	// are spread over hosts and zones where that is possible; an empty list spreads them not at all.
	// +optional
	// +listType=map
	// +listMapKey=topologyKey
	// +listMapKey=whenUnsatisfiable
	// +kubebuilder:validation:MaxItems=16
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
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

// ProxyMode is how the image of a stdio server serves it to clients.
//
// +kubebuilder:validation:Enum=sse;streamable-http
type ProxyMode string

const (
	// ProxyModeSSE serves HTTP with server-sent events at /sse.
	ProxyModeSSE ProxyMode = "sse"
	// ProxyModeStreamableHTTP serves streamable HTTP at /mcp. The default.
	ProxyModeStreamableHTTP ProxyMode = "streamable-http"
)
