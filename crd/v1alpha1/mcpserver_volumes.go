package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// SecretRef makes a key of a Secret an environment variable.
type SecretRef struct {
	// The name of the Secret, in the namespace of the MCPServer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// The key in the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// The name of the environment variable. Left out, it is the key.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	TargetEnvName string `json:"targetEnvName,omitempty"`
}

// Volume is a volume of the pods that the container mounts. It has exactly one source.
//
// +kubebuilder:validation:XValidation:rule="[has(self.hostPath), has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir), has(self.projected)].filter(source, source).size() == 1",message="exactly one of hostPath, persistentVolumeClaim, configMap, secret, emptyDir and projected has to be set"
type Volume struct {
	// The name of the volume, unique among the volumes of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Where the container mounts it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.contains(':')",message="must not contain a colon"
	MountPath string `json:"mountPath"`

	// Whether the container may only read it.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`

	// A path on the node. The restricted and the baseline Pod Security Standard forbid it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	HostPath *string `json:"hostPath,omitempty"`

	// A claim that exists already, which all pods share.
	// +optional
	PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`

	// The keys of a ConfigMap as files.
	// +optional
	ConfigMap *corev1.ConfigMapVolumeSource `json:"configMap,omitempty"`

	// The keys of a Secret as files.
	// +optional
	Secret *corev1.SecretVolumeSource `json:"secret,omitempty"`

	// An empty directory that goes away with the pod.
	// +optional
	EmptyDir *corev1.EmptyDirVolumeSource `json:"emptyDir,omitempty"`

	// Several sources in one directory.
	// +optional
	Projected *corev1.ProjectedVolumeSource `json:"projected,omitempty"`
}

// VolumeClaimTemplate is a claim of storage that each pod gets one of its own of.
type VolumeClaimTemplate struct {
	// Name, labels and annotations of the claims.
	// +required
	Metadata VolumeClaimMetadata `json:"metadata"`

	// What is claimed, as in a PersistentVolumeClaim.
	// +required
	Spec corev1.PersistentVolumeClaimSpec `json:"spec"`
}

// VolumeClaimMetadata is the metadata of a VolumeClaimTemplate.
type VolumeClaimMetadata struct {
	// The name by which the container mounts it. The claim of a pod is NAME-POD.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Labels of the claims.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations of the claims.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
