package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ClientService configures the Service to which clients connect.
//
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",message="loadBalancerClass is valid only with type LoadBalancer: remove it, or set type to LoadBalancer",fieldPath=".loadBalancerClass"
// +kubebuilder:validation:XValidation:rule="!has(self.nodePort) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",message="nodePort is valid only with type NodePort or LoadBalancer: remove it, or set the type",fieldPath=".nodePort"
type ClientService struct {
	// The type, as in a Service: ClusterIP, NodePort or LoadBalancer. If unset, the operator does not set the type. The
	// Service is then of type ClusterIP, unless another client sets another type.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// The IP families, as in a Service: IPv4, IPv6 or both. The first family of a Service is immutable.
	// If unset, the cluster decides, and a Service that had both families keeps them. With one family, the Service has only this
	// family. The address on which the server listens depends on the first family: see env.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="self.all(f, f in ['IPv4', 'IPv6'])",message="each family must be IPv4 or IPv6"
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || self[0] != self[1]",message="the two families must differ: remove one of them"
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// The port on every node, as in a Service. Must be from 1 to 65535. Requires type NodePort or LoadBalancer. If unset,
	// Kubernetes chooses one.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort *int32 `json:"nodePort,omitempty"`

	// The application protocol of the port, as in a Service, for example http or kubernetes.io/h2c. Some service meshes and
	// gateways need it. If unset, the operator sets none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	AppProtocol *string `json:"appProtocol,omitempty"`

	// The class of the load balancer, as in a Service. Requires type LoadBalancer. If unset, the default of the cluster.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// The endpoints that are preferred, as in a Service: PreferSameZone, PreferSameNode or PreferClose. If unset, no endpoint
	// is preferred.
	// +optional
	// +kubebuilder:validation:Enum=PreferSameZone;PreferSameNode;PreferClose
	TrafficDistribution *string `json:"trafficDistribution,omitempty"`
}

// PermissionProfile is what the server may reach over the network.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'configmap'",message="type configmap is not supported, because a proxy would have to enforce such a profile and the operator runs no proxy: use type builtin, or create a NetworkPolicy of your own",fieldPath=".type"
// +kubebuilder:validation:XValidation:rule="self.type != 'builtin' || self.name in ['none', 'network']",message="the name of a builtin profile must be none or network",fieldPath=".name"
type PermissionProfile struct {
	// The type of the profile. Must be builtin: configmap, which other operators accept, is refused. Defaults to builtin.
	// +optional
	// +kubebuilder:default=builtin
	// +kubebuilder:validation:Enum=builtin;configmap
	Type string `json:"type,omitempty"`

	// The name of the profile: none or network.
	//
	// none: the operator creates the NetworkPolicy mcp-NAME, which allows outgoing connections to port 53 (DNS) only.
	//
	// network: the operator creates no NetworkPolicy.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// The key in the ConfigMap of a profile of type configmap. Not used, because type configmap is refused.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// Names of the builtin permission profiles.
const (
	// PermissionProfileNone allows outgoing connections for DNS only.
	PermissionProfileNone = "none"
	// PermissionProfileNetwork allows all outgoing connections.
	PermissionProfileNetwork = "network"
)

// PodDisruptionBudget is the number of pods that may be evicted at the same time.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.maxUnavailable) && has(self.minAvailable))",message="maxUnavailable and minAvailable exclude each other: remove one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.disabled) || !self.disabled || !(has(self.maxUnavailable) || has(self.minAvailable))",message="maxUnavailable and minAvailable are not valid in a disabled budget: remove them, or remove disabled"
type PodDisruptionBudget struct {
	// The number of pods that may be unavailable after an eviction: a number from 0, or a percentage from 0% to 100%. Excludes
	// minAvailable. If both are unset, 1.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^[0-9]{1,2}%$|^100%$')",message="must be a number from 0, or a percentage from 0% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// The number of pods that must be available after an eviction: a number from 0, or a percentage from 0% to 100%. Excludes
	// maxUnavailable.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^[0-9]{1,2}%$|^100%$')",message="must be a number from 0, or a percentage from 0% to 100%"
	MinAvailable *intstr.IntOrString `json:"minAvailable,omitempty"`

	// If true, the operator creates no PodDisruptionBudget. Excludes maxUnavailable and minAvailable. Defaults to false.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// ResourceOverrides adds labels and annotations to the objects that the operator creates.
type ResourceOverrides struct {
	// Additional labels and annotations of the Service mcp-NAME-proxy.
	// +optional
	ProxyService *MetadataOverrides `json:"proxyService,omitempty"`

	// Additional labels and annotations of the StatefulSet. For those of the pods, use podTemplateSpec.
	// +optional
	StatefulSet *MetadataOverrides `json:"statefulSet,omitempty"`

	// Additional labels and annotations of the Service mcp-NAME-headless.
	// +optional
	HeadlessService *MetadataOverrides `json:"headlessService,omitempty"`

	// No effect: these are settings of the Deployment of ToolHive's proxy. For those of the pods of the server, use
	// podTemplateSpec and imagePullSecrets.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ProxyDeployment *runtime.RawExtension `json:"proxyDeployment,omitempty"`
}

// MetadataOverrides adds labels and annotations to an object.
//
// +kubebuilder:validation:XValidation:rule="!has(self.annotations) || !self.annotations.exists(a, a.startsWith('toolhive.stacklok.dev/'))",message="the operator sets the annotations toolhive.stacklok.dev/...: remove them",fieldPath=".annotations"
// +kubebuilder:validation:XValidation:rule="!has(self.labels) || !('app.kubernetes.io/name' in self.labels || 'app.kubernetes.io/instance' in self.labels || 'app.kubernetes.io/managed-by' in self.labels || 'toolhive.stacklok.dev/service' in self.labels)",message="the labels app.kubernetes.io/name, instance and managed-by and toolhive.stacklok.dev/service are set by the operator: remove them, and use others",fieldPath=".labels"
type MetadataOverrides struct {
	// Labels to add. app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/managed-by and
	// toolhive.stacklok.dev/service are refused, because the operator sets them.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations to add. Annotations that begin with toolhive.stacklok.dev/ are refused, because the operator sets them.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
