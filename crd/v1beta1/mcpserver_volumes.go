package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
)

// SecretRef sets an environment variable to the value of a key of a Secret.
type SecretRef struct {
	// The name of the Secret, in the namespace of the MCPServer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// The key in the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`

	// The name of the environment variable. If unset, the key.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	TargetEnvName string `json:"targetEnvName,omitempty"`
}

// Volume is a volume of the pods that the container mounts. It must have exactly one source.
//
// +kubebuilder:validation:XValidation:rule="[has(self.hostPath), has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir), has(self.projected)].filter(source, source).size() == 1",message="exactly one of hostPath, persistentVolumeClaim, configMap, secret, emptyDir and projected must be set"
type Volume struct {
	// The name of the volume. Must be unique among the volumes of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// The path at which the container mounts the volume. Must not contain a colon.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.contains(':')",message="must not contain a colon: choose another path"
	MountPath string `json:"mountPath,omitempty"`

	// If true, the container mounts the volume read-only. Defaults to false.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`

	// A file or directory of the node, by its path. The Pod Security Standards restricted and baseline forbid it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	HostPath *string `json:"hostPath,omitempty"`

	// An existing PersistentVolumeClaim, in the namespace of the MCPServer. All pods share it.
	// +optional
	PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`

	// The keys of a ConfigMap as files.
	// +optional
	ConfigMap *corev1.ConfigMapVolumeSource `json:"configMap,omitempty"`

	// The keys of a Secret as files.
	// +optional
	Secret *corev1.SecretVolumeSource `json:"secret,omitempty"`

	// An empty directory that is created with the pod and deleted with it.
	// +optional
	EmptyDir *corev1.EmptyDirVolumeSource `json:"emptyDir,omitempty"`

	// Several sources in one directory, as in a Pod.
	// +optional
	Projected *corev1.ProjectedVolumeSource `json:"projected,omitempty"`
}

// VolumeClaimTemplate is a PersistentVolumeClaim created for each pod.
type VolumeClaimTemplate struct {
	// The name, labels and annotations of the claims.
	// +required
	Metadata VolumeClaimMetadata `json:"metadata,omitzero"`

	// The spec of the claims, as in a PersistentVolumeClaim.
	// +required
	Spec corev1.PersistentVolumeClaimSpec `json:"spec"`
}

// VolumeClaimMetadata is the metadata of a VolumeClaimTemplate.
type VolumeClaimMetadata struct {
	// The name of the volume in the pod. The claim of a pod is named NAME-POD: this name, a dash and the name of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// Labels of the claims.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations of the claims.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
