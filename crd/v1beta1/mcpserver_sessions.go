package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Sessions says how the sessions of clients are served when there is more than one pod, and when a pod is lost. It has an effect only if the
// operator runs with a runner, see its flag --runner-image.
//
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode == 'Routed' || !(has(self.onPodLoss) || has(self.idleTimeout) || has(self.maxPerPod) || has(self.resources))",message="onPodLoss, idleTimeout, maxPerPod and resources are settings of the runner, which mode Direct turns off: remove them, or set mode to Routed"
type Sessions struct {
	// How requests reach the server. If unset, Routed.
	//
	// Routed: a runner in each pod receives the requests, serves a stdio server over HTTP, and forwards the requests of a session to
	// the pod that has the session. The Service needs no session affinity.
	//
	// Direct: the pods have no runner. Requests go directly to the container mcp. A server whose transport is stdio is then
	// unreachable, unless something in its pod serves it over HTTP.
	// +optional
	Mode SessionMode `json:"mode,omitempty"`

	// What happens to a session whose pod or process is lost. If unset, Recreate.
	//
	// Recreate: another pod starts the session again under the same id. The state that the server kept in memory for the session is
	// lost. A session of the transport HTTP+SSE (2024-11-05) is its stream, and ends with it.
	//
	// End: the client gets the status 404, and must open a new session.
	// +optional
	OnPodLoss PodLossPolicy `json:"onPodLoss,omitempty"`

	// How long a session may be unused before it ends, for example 15m. A session with nothing but an open stream is unused. Must be
	// from 1s to 168h. If unset, 15m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('168h')",message="must be a duration from 1s to 168h, for example 15m"
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`

	// How many sessions a pod may have. A stdio server has a process for each session. If all pods are full, a new session is refused
	// with the status 503. Must be from 1 to 100000. If unset, 1000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxPerPod *int32 `json:"maxPerPod,omitempty"`

	// The compute resources of the container runner, as in a Pod. A stdio server has no such container: its runner is in the container
	// mcp. If unset, the container requests 10m CPU and 32Mi of memory.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// SessionMode is how requests reach a server.
//
// +kubebuilder:validation:Enum=Routed;Direct
type SessionMode string

const (
	// SessionsRouted puts a runner in front of the server. The default.
	SessionsRouted SessionMode = "Routed"
	// SessionsDirect leaves the pods without a runner.
	SessionsDirect SessionMode = "Direct"
)

// PodLossPolicy is what happens to a session whose pod or process is lost.
//
// +kubebuilder:validation:Enum=Recreate;End
type PodLossPolicy string

const (
	// RecreateSession starts the session again under the same id. The default.
	RecreateSession PodLossPolicy = "Recreate"
	// EndSession answers with the status 404.
	EndSession PodLossPolicy = "End"
)
