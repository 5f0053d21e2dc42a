package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ClientService is how the Service that clients connect to is reached.
//
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",message="loadBalancerClass counts only with type LoadBalancer: remove it, or set type",fieldPath=".loadBalancerClass"
type ClientService struct {
	// ClusterIP, NodePort or LoadBalancer, as in a Service. Left out, the operator does not claim the type: it is
	// ClusterIP, unless someone else sets another.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// The IP families, as in a Service: IPv4, IPv6 or both, the first of which cannot be changed afterwards. Left out,
	// the cluster decides. The first family of the Service also decides on which address the server listens: see env.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="self.all(f, f in ['IPv4', 'IPv6'])",message="has to be IPv4 or IPv6"
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || self[0] != self[1]",message="the two families must differ"
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// The implementation of a load balancer, as in a Service.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// Which endpoints are preferred, as in a Service: PreferSameZone, PreferSameNode or PreferClose. Left out, none are.
	// +optional
	// +kubebuilder:validation:Enum=PreferSameZone;PreferSameNode;PreferClose
	TrafficDistribution *string `json:"trafficDistribution,omitempty"`
}

// PermissionProfile is what a server may reach over the network.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'configmap'",message="type configmap is not supported: such a profile describes what a proxy enforces, and there is none here. Use type builtin, or write a NetworkPolicy of your own",fieldPath=".type"
// +kubebuilder:validation:XValidation:rule="self.type != 'builtin' || self.name in ['none', 'network']",message="a builtin profile is none or network",fieldPath=".name"
type PermissionProfile struct {
	// Where the profile comes from: builtin. The type configmap of other operators is refused.
	// +optional
	// +kubebuilder:default=builtin
	// +kubebuilder:validation:Enum=builtin;configmap
	Type string `json:"type,omitempty"`

	// none: a NetworkPolicy lets no connection out but those for DNS. network: the operator makes no NetworkPolicy.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// The key in the ConfigMap of a profile of type configmap, which is refused.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// Names of the builtin permission profiles.
const (
	// PermissionProfileNone lets no connection out but those for DNS.
	PermissionProfileNone = "none"
	// PermissionProfileNetwork lets all connections out.
	PermissionProfileNetwork = "network"
)

// PodDisruptionBudget is how many pods may be evicted at a time.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.maxUnavailable) && has(self.minAvailable))",message="maxUnavailable and minAvailable exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="!has(self.disabled) || !self.disabled || !(has(self.maxUnavailable) || has(self.minAvailable))",message="a disabled budget has neither maxUnavailable nor minAvailable: remove them, or disabled"
type PodDisruptionBudget struct {
	// How many pods may be unavailable after an eviction: a number or a percentage such as 25%.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^[0-9]{1,2}%$|^100%$')",message="has to be a number from 0, or a percentage from 0% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// How many pods have to be available after an eviction: a number or a percentage such as 75%.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^[0-9]{1,2}%$|^100%$')",message="has to be a number from 0, or a percentage from 0% to 100%"
	MinAvailable *intstr.IntOrString `json:"minAvailable,omitempty"`

	// No budget is made.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// ResourceOverrides are labels and annotations of the objects that the operator makes.
type ResourceOverrides struct {
	// Of the Service mcp-NAME-proxy.
	// +optional
	ProxyService *MetadataOverrides `json:"proxyService,omitempty"`

	// Of the StatefulSet itself; for those of its pods there is podTemplateSpec.
	// +optional
	StatefulSet *MetadataOverrides `json:"statefulSet,omitempty"`

	// Of the Service mcp-NAME-headless.
	// +optional
	HeadlessService *MetadataOverrides `json:"headlessService,omitempty"`
}

// MetadataOverrides are labels and annotations to add to an object.
//
// +kubebuilder:validation:XValidation:rule="!has(self.annotations) || !('toolhive.stacklok.dev/declared-replicas' in self.annotations)",message="the annotation toolhive.stacklok.dev/declared-replicas is set by the operator",fieldPath=".annotations"
// +kubebuilder:validation:XValidation:rule="!has(self.labels) || !('app.kubernetes.io/name' in self.labels || 'app.kubernetes.io/instance' in self.labels || 'app.kubernetes.io/managed-by' in self.labels)",message="the labels app.kubernetes.io/name, instance and managed-by select the objects, and are set by the operator: use others",fieldPath=".labels"
type MetadataOverrides struct {
	// Labels to add. Those that the operator selects by are refused.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations to add.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
