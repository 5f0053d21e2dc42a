package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DeclaredReplicasAnnotation is the annotation of the StatefulSet with the last value of spec.replicas that the operator applied. The
// operator writes it in the same request as the replicas. A crash or a stale cache therefore cannot make the operator apply one
// declaration twice.
const DeclaredReplicasAnnotation = "toolhive.stacklok.dev/declared-replicas"

// Annotations of the StatefulSet that prevent an upgrade of the operator from restarting pods. The value of both is
// REVISION:DIGEST:INPUTS. REVISION is the revision of the pod templates that a version of the operator builds. DIGEST is the digest of the
// pod template that this version built for the MCPServer. INPUTS is the digest of the fields of the MCPServer that may affect it.
const (
	// PodTemplateAnnotation identifies the pod template of the StatefulSet.
	PodTemplateAnnotation = "toolhive.stacklok.dev/pod-template"
	// PodTemplateUpdateAnnotation identifies the pod template that the operator now builds but has not applied. Absent if the operator
	// has applied it.
	PodTemplateUpdateAnnotation = "toolhive.stacklok.dev/pod-template-update"
)

// ImageAnnotation is the annotation of the StatefulSet with the image whose command its pod template, or the update that it identifies, was built
// with: an ImageStatus in JSON. The operator writes it in the same request as the pod template. The status of the MCPServer repeats it, but is
// written later: a crash or a conflict in between must not make the operator build the pod template with the command of another image. Absent if the
// command is not that of an image.
const ImageAnnotation = "toolhive.stacklok.dev/image"

// UpdatePodTemplateAnnotation is the annotation of the MCPServer with the revision of the pod template that the user asks for. It has an
// effect only if it is the revision that the condition UpdateAvailable names.
const UpdatePodTemplateAnnotation = "toolhive.stacklok.dev/update-pod-template"

// RestartedAtAnnotation is the annotation of the MCPServer that restarts its pods when its value changes, like kubectl rollout restart. Its
// value is usually the time of the request. The operator copies it to the pod template. A removal restarts nothing.
const RestartedAtAnnotation = "mcpserver.toolhive.stacklok.dev/restarted-at"

// Types of condition of an MCPServer. Ready, Reconciling and Stalled follow the conventions of kstatus.
const (
	// ConditionReady is True if every pod that the StatefulSet asks for is ready and up to date.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the observed state differs from the desired state and progresses towards it. Absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True if the operator cannot reach the desired state until a user acts. Absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionScaleConflict is True while spec.replicas is set and another client owns the scale at another value, or changes it each
	// time the operator restores it. Absent otherwise.
	ConditionScaleConflict = "ScaleConflict"
	// ConditionAutoscalerProblem is True while an autoscaler that targets the server cannot scale it as configured. Absent otherwise.
	ConditionAutoscalerProblem = "AutoscalerProblem"
	// ConditionFieldConflict is True while another client changes a field of a child each time the operator restores it, or keeps a
	// field of a child that the MCPServer no longer asks for. Absent otherwise.
	ConditionFieldConflict = "FieldConflict"
	// ConditionSuspended is True while spec.suspend is true. Absent otherwise.
	ConditionSuspended = "Suspended"
	// ConditionUpdateAvailable is True while this version of the operator builds another pod template than the StatefulSet has, and has
	// not applied it. Absent otherwise.
	ConditionUpdateAvailable = "UpdateAvailable"
)

// Conditions lists the types of condition that the operator sets. Conditions of other types belong to other clients.
var Conditions = []string{
	ConditionReady, ConditionReconciling, ConditionStalled, ConditionScaleConflict, ConditionAutoscalerProblem, ConditionFieldConflict,
	ConditionSuspended, ConditionUpdateAvailable,
}

// MCPServerStatus is the state of an MCPServer as the operator last observed it.
type MCPServerStatus struct {
	// The generation of the MCPServer that this status describes. -1 until the operator writes the status for the first time.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// The conditions of the MCPServer. All conditions except Ready are present only while they are True.
	//
	// Ready: every pod that the StatefulSet asks for is ready and up to date. If the condition is False, the message says what
	// is missing.
	//
	// Reconciling: the operator or Kubernetes is working towards the desired state.
	//
	// Stalled: the operator cannot reach the desired state until you act. The message says what to do.
	//
	// ScaleConflict: spec.replicas is set, and another client owns the scale at another value, or changes it each time the
	// operator restores it. The message names the client and says what to do.
	//
	// AutoscalerProblem: an autoscaler that targets the server cannot scale it as configured. The message has the fix.
	//
	// FieldConflict: another client changes a field of a child each time the operator restores it, or keeps a field of a child
	// that the MCPServer no longer asks for. The message names the client if Kubernetes recorded it.
	//
	// Suspended: spec.suspend is true, and the operator writes only this status.
	//
	// UpdateAvailable: this version of the operator builds another pod template than the StatefulSet has, and has not applied
	// it. The message says what the new template changes and how to apply it. Applying it restarts the pods.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// A summary of the conditions in one word: Pending, Ready, Failed, Stopped or Terminating. Failed: the condition Stalled is
	// True. Stopped: the server is scaled to 0, but not by an autoscaler. If an autoscaler scaled the server to 0, the phase is
	// Ready, and the reason of the condition Ready is Idle. Programs should read the conditions instead.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// The number of ready pods and the number of pods that the StatefulSet asks for, for example 2/3. The first number does not
	// include pods that are being deleted, and is never greater than the second.
	// +optional
	Ready string `json:"ready,omitempty"`

	// The number of pods that the StatefulSet has. Part of the scale subresource.
	// +optional
	Replicas int32 `json:"replicas"`

	// The number of ready pods in the status of the StatefulSet. It includes pods that are being deleted and are still ready.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// The label selector of the pods, as a string. Part of the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// The scale of the StatefulSet and its owner. Absent until the operator observes the StatefulSet for the first time. If the
	// StatefulSet is deleted, this field keeps the last values, because the operator recreates the StatefulSet at its last
	// scale.
	// +optional
	Scale *ScaleStatus `json:"scale,omitempty"`

	// Fields of children that the MCPServer no longer asks for, and that another client keeps, because it has also applied them. The
	// condition FieldConflict is True while there are any.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	KeptFields []KeptFields `json:"keptFields,omitempty"`

	// The command in the image of a stdio server, as its registry had it when the pods were last changed. Absent if the MCPServer says what to
	// run, or if the pods have no runner.
	// +optional
	Image *ImageStatus `json:"image,omitempty"`

	// The URL to which clients connect, inside the cluster.
	// +optional
	URL string `json:"url,omitempty"`
}

// ImageStatus is what a registry says of an image.
type ImageStatus struct {
	// The reference of the image, for example registry.example/server:1.
	// +required
	// +kubebuilder:validation:MaxLength=1024
	Reference string `json:"reference"`

	// The digest that the reference had when it was looked up. A tag can move later: the operator looks it up again with the next change of
	// the pods.
	// +required
	// +kubebuilder:validation:MaxLength=256
	Digest string `json:"digest"`

	// The entrypoint of the image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Entrypoint []string `json:"entrypoint,omitempty"`

	// The cmd of the image: the arguments of the entrypoint if the MCPServer has no args.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Cmd []string `json:"cmd,omitempty"`
}

// Phase is a summary of the conditions in one word.
//
// +kubebuilder:validation:Enum=Pending;Ready;Failed;Stopped;Terminating
type Phase string

const (
	// PhasePending is an MCPServer that is not ready yet.
	PhasePending Phase = "Pending"
	// PhaseReady is an MCPServer whose pods are all ready, or that an autoscaler scaled to 0.
	PhaseReady Phase = "Ready"
	// PhaseFailed is an MCPServer that is Stalled.
	PhaseFailed Phase = "Failed"
	// PhaseStopped is an MCPServer that is scaled to 0, but not by an autoscaler.
	PhaseStopped Phase = "Stopped"
	// PhaseTerminating is an MCPServer that is being deleted.
	PhaseTerminating Phase = "Terminating"
)

// ScaleOwnerMCPServer is the owner in ScaleStatus if the operator owns the scale.
const ScaleOwnerMCPServer = "MCPServer"

// ScaleOwnerUnclaimed is the owner in ScaleStatus if no field manager owns the scale.
const ScaleOwnerUnclaimed = "Unclaimed"

// ScaleStatus is the scale of the StatefulSet and its owner.
type ScaleStatus struct {
	// The number of pods that the StatefulSet asks for.
	// +required
	Replicas int32 `json:"replicas"`

	// The owner of the scale. MCPServer: the operator, which applied spec.replicas. HorizontalPodAutoscaler/NAME: an
	// autoscaler. ScaledObject/NAME: an autoscaler of KEDA. Another name, such as kubectl or argocd-controller: the field
	// manager that owns the field. Unclaimed: Kubernetes recorded no owner. Kubernetes records no owner if a client writes
	// through the scale subresource while no client owns the field.
	// +required
	Owner string `json:"owner"`

	// The field manager that owns spec.replicas of the StatefulSet. Absent if Kubernetes recorded none.
	// +optional
	Manager string `json:"manager,omitempty"`

	// The operation of that field manager: Apply or Update.
	// +optional
	Operation metav1.ManagedFieldsOperationType `json:"operation,omitempty"`

	// The subresource through which that field manager wrote: scale for kubectl scale and autoscalers. Absent if the field
	// manager wrote the StatefulSet itself.
	// +optional
	Subresource string `json:"subresource,omitempty"`

	// The last value of spec.replicas that the operator applied. Absent while spec.replicas is unset.
	// +optional
	DeclaredReplicas *int32 `json:"declaredReplicas,omitempty"`

	// How often the operator restored the declared number recently, with replicasConflictPolicy Force. Absent if it did not.
	// +optional
	TakeBacks *ScaleTakeBacks `json:"takeBacks,omitempty"`

	// The time when the operator first observed this owner.
	// +optional
	Since metav1.Time `json:"since,omitzero"`

	// The last five transfers of the scale from one owner to another, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	Transfers []ScaleTransfer `json:"transfers,omitempty"`
}

// KeptFields are fields of a child that the MCPServer no longer asks for, and that another client keeps.
type KeptFields struct {
	// The kind of the child, for example StatefulSet.
	// +required
	Kind string `json:"kind"`
	// The name of the child.
	// +required
	Name string `json:"name"`
	// The field manager that keeps the fields.
	// +required
	Manager string `json:"manager"`
	// The paths of the fields.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Fields []string `json:"fields"`
}

// ScaleTakeBacks counts how often the operator restored the declared number. After three times within a minute, the operator
// waits before each further time: 10 seconds, doubling to 5 minutes. The count ends when the others stop.
type ScaleTakeBacks struct {
	// The owners from whom the operator took the scale back, separated by commas. At most three, the first one first.
	// +required
	From string `json:"from"`
	// The number of times that the operator restored the declared number.
	// +required
	Count int32 `json:"count"`
	// The time of the first of them.
	// +required
	Since metav1.Time `json:"since"`
	// The time of the last of them.
	// +required
	Last metav1.Time `json:"last"`
}

// ScaleTransfer is a change of the owner of the scale.
type ScaleTransfer struct {
	// The time when the operator observed the change.
	// +required
	Time metav1.Time `json:"time"`
	// The owner before the change.
	// +required
	From string `json:"from"`
	// The owner after the change.
	// +required
	To string `json:"to"`
	// The number of pods before the change.
	// +required
	FromReplicas int32 `json:"fromReplicas"`
	// The number of pods after the change.
	// +required
	ToReplicas int32 `json:"toReplicas"`
}
