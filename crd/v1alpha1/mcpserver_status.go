package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DeclaredReplicasAnnotation is the annotation, on the StatefulSet, with the value of spec.replicas that has been carried out. It is
// written in the same request as the replicas themselves, so that neither a crash nor a stale cache can carry out one
// declaration twice.
const DeclaredReplicasAnnotation = "toolhive.stacklok.dev/declared-replicas"

// Annotations that keep an upgrade of the operator from restarting pods. Both are REVISION:DIGEST, on the StatefulSet: the revision of the
// pod templates that an operator makes, and a digest of the pod template that it made for this MCPServer.
const (
	// PodTemplateAnnotation is about the pod template that the StatefulSet has.
	PodTemplateAnnotation = "toolhive.stacklok.dev/pod-template"
	// PodTemplateUpdateAnnotation is about the pod template that the operator makes now and has not applied. Absent if it has.
	PodTemplateUpdateAnnotation = "toolhive.stacklok.dev/pod-template-update"
)

// UpdatePodTemplateAnnotation is the annotation, on the MCPServer, with the revision of the pod template that the user asks for. It has an
// effect if it is the one that the condition UpdateAvailable names.
const UpdatePodTemplateAnnotation = "toolhive.stacklok.dev/update-pod-template"

// Types of condition of an MCPServer. Ready, Reconciling and Stalled follow kstatus.
const (
	// ConditionReady is True when every pod that the StatefulSet asks for is ready and up to date.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the observed state is on its way to the wanted one. Absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when the operator cannot go on without help. Absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionScaleConflict is True while replicas are declared and someone else holds the scale at another value.
	// Absent otherwise.
	ConditionScaleConflict = "ScaleConflict"
	// ConditionAutoscalerProblem is True while an autoscaler that targets the server cannot do what it is meant to.
	// Absent otherwise.
	ConditionAutoscalerProblem = "AutoscalerProblem"
	// ConditionFieldConflict is True while someone else changes a field of a child each time the operator puts it back.
	// Absent otherwise.
	ConditionFieldConflict = "FieldConflict"
	// ConditionSuspended is True while spec.suspend is true. Absent otherwise.
	ConditionSuspended = "Suspended"
	// ConditionUpdateAvailable is True while this version of the operator makes another pod template than the one that the pods run,
	// and has not applied it. Absent otherwise.
	ConditionUpdateAvailable = "UpdateAvailable"
)

// Conditions are the types of condition that the operator sets. Conditions of other types belong to others.
var Conditions = []string{
	ConditionReady, ConditionReconciling, ConditionStalled, ConditionScaleConflict, ConditionAutoscalerProblem, ConditionFieldConflict,
	ConditionSuspended, ConditionUpdateAvailable,
}

// MCPServerStatus is what the operator saw and did.
type MCPServerStatus struct {
	// The generation of the MCPServer that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Ready: every pod that the StatefulSet asks for is ready and up to date; when False, the message says what is
	// missing. Reconciling: on the way. Stalled: cannot go on without help; the message says what help. ScaleConflict:
	// replicas are declared and someone else holds the scale at another value; the message says who, and the way out.
	// AutoscalerProblem: an autoscaler that targets the server cannot do what it is meant to; the message has the fix.
	// FieldConflict: someone else changes a field of a child each time it is put back; the message says who.
	// Suspended: spec.suspend is true, and the operator writes nothing but this status. UpdateAvailable: this version of the
	// operator makes another pod template; the message says what it changes and how to apply it, which restarts the pods.
	// All but Ready are present only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// A summary of the conditions in one word: Pending, Ready, Failed, Stopped (scaled to 0 by a person) or Terminating.
	// A server that an autoscaler has scaled to 0 is Ready, for the reason Idle. Programs should read the conditions.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// Ready pods of the pods that the StatefulSet asks for, for example 2/3. A pod that is being deleted does not count, and no
	// more pods count than are asked for.
	// +optional
	Ready string `json:"ready,omitempty"`

	// The pods that the StatefulSet has. Part of the scale subresource.
	// +optional
	Replicas int32 `json:"replicas"`

	// The pods that are ready, as the StatefulSet counts them: with those that are being deleted and still ready.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// The label selector of the pods, as a string. Part of the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// Who decides the scale of the StatefulSet. Absent until the StatefulSet was seen once; while the StatefulSet is
	// absent it stays as last seen, because a StatefulSet that comes back keeps its scale.
	// +optional
	Scale *ScaleStatus `json:"scale,omitempty"`

	// Where clients connect.
	// +optional
	URL string `json:"url,omitempty"`
}

// Phase is a summary of the conditions in one word.
//
// +kubebuilder:validation:Enum=Pending;Ready;Failed;Stopped;Terminating
type Phase string

const (
	// PhasePending is an MCPServer that is on its way.
	PhasePending Phase = "Pending"
	// PhaseReady is an MCPServer with all pods ready, or idle: an autoscaler has scaled it to 0.
	PhaseReady Phase = "Ready"
	// PhaseFailed is an MCPServer that is Stalled.
	PhaseFailed Phase = "Failed"
	// PhaseStopped is an MCPServer that a person has scaled to 0.
	PhaseStopped Phase = "Stopped"
	// PhaseTerminating is an MCPServer that is being deleted.
	PhaseTerminating Phase = "Terminating"
)

// ScaleOwnerMCPServer is the owner in ScaleStatus when the operator owns the scale because replicas are declared.
const ScaleOwnerMCPServer = "MCPServer"

// ScaleOwnerUnclaimed is the owner in ScaleStatus when no field manager owns the scale.
const ScaleOwnerUnclaimed = "Unclaimed"

// ScaleStatus is the scale of the StatefulSet and who decides it.
type ScaleStatus struct {
	// The replicas that the StatefulSet asks for.
	Replicas int32 `json:"replicas"`

	// Who decides the scale: MCPServer (replicas are declared here); HorizontalPodAutoscaler/NAME; ScaledObject/NAME for
	// an autoscaler that KEDA made; the field manager that owns it, such as kubectl or argocd-controller; or Unclaimed
	// when Kubernetes recorded nobody, as it does for a write through /scale on a field that nobody owns.
	Owner string `json:"owner"`

	// The field manager that owns the replicas of the StatefulSet. Absent when Kubernetes recorded none.
	// +optional
	Manager string `json:"manager,omitempty"`

	// The operation of that field manager: Apply or Update.
	// +optional
	Operation metav1.ManagedFieldsOperationType `json:"operation,omitempty"`

	// The subresource through which that field manager wrote: scale for kubectl scale and autoscalers. Absent for a
	// write of the StatefulSet itself.
	// +optional
	Subresource string `json:"subresource,omitempty"`

	// The value of spec.replicas that was last carried out. Absent while replicas are not declared.
	// +optional
	DeclaredReplicas *int32 `json:"declaredReplicas,omitempty"`

	// How often the declared number had to be put back (policy Force). Absent while it was not.
	// +optional
	TakeBacks *ScaleTakeBacks `json:"takeBacks,omitempty"`

	// When the operator first saw this owner.
	// +optional
	Since metav1.Time `json:"since,omitzero"`

	// The last five transfers of the scale from one owner to another, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	Transfers []ScaleTransfer `json:"transfers,omitempty"`
}

// ScaleTakeBacks counts how often the declared number was put back against the same writer. From the third time within
// a minute on it is a fight, and the operator waits longer each time: 10 s, doubling to 5 min.
type ScaleTakeBacks struct {
	// Who had changed the scale.
	From string `json:"from"`
	// How often it was put back since then.
	Count int32 `json:"count"`
	// When it was put back for the first time.
	Since metav1.Time `json:"since"`
	// When it was put back last.
	Last metav1.Time `json:"last"`
}

// ScaleTransfer is a change of the owner of the scale.
type ScaleTransfer struct {
	// When the operator saw it.
	Time metav1.Time `json:"time"`
	// The owner before.
	From string `json:"from"`
	// The owner after.
	To string `json:"to"`
	// The replicas before.
	FromReplicas int32 `json:"fromReplicas"`
	// The replicas after.
	ToReplicas int32 `json:"toReplicas"`
}
