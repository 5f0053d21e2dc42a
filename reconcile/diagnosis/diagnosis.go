// Package diagnosis says why pods do not work: what is wrong and what a reader can do about it. It looks only at pods and at
// events that it is given, and knows nothing of MCPServer.
//
// What others have written, such as the kubelet, an admission webhook or the server itself, is quoted, in bounds.
package diagnosis

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Reason is the kind of a finding, in the form of the reason of a condition.
type Reason string

// The reasons. Where the kubelet has a name for the state, it is that name.
const (
	NodeLost           Reason = "NodeLost"
	TerminatingTooLong Reason = "TerminatingTooLong"
	Evicted            Reason = "Evicted"
	PodFailed          Reason = "PodFailed"
	SchedulingGated    Reason = "SchedulingGated"
	Unschedulable      Reason = "Unschedulable"
	ImagePullFailed    Reason = "ImagePullFailed"
	RootRefused        Reason = "RootRefused"
	ReferenceMissing   Reason = "ReferenceMissing"
	ContainerInvalid   Reason = "ContainerInvalid"
	OOMKilled          Reason = "OOMKilled"
	CrashLoopBackOff   Reason = "CrashLoopBackOff"
	NotAnswering       Reason = "NotAnswering"
	ReadinessGate      Reason = "ReadinessGate"
	VolumeNotMounted   Reason = "VolumeNotMounted"
	SandboxNotCreated  Reason = "SandboxNotCreated"
	PodNotCreated      Reason = "PodNotCreated"
)

// Finding is one thing that is wrong.
type Finding struct {
	Reason Reason
	// Message says what is wrong, and what the reader can do. It has no final period.
	Message string
}

// Server is what a diagnosis needs to know of the server in the pods.
type Server struct {
	// Container is the name of its container.
	Container string
	// Port is the port on which the container has to listen.
	Port int32
	// Startup is how long the startup probe of the container lets it go without an answer before the kubelet ends it. Zero:
	// there is no such probe.
	Startup time.Duration
	// Grace is how long the container may take to end.
	Grace time.Duration
}

// answerWithin is how long a container may run without being ready until that is a finding. Most servers are ready within
// seconds; one that installs itself first takes longer, and then the finding goes away by itself.
const answerWithin = 20 * time.Second

// startWithin is how long a pod may take until a scheduler has looked at it, and from then until its containers can be created,
// while nothing says why. The kubelet waits 10 s and more between two tries to mount a volume.
const startWithin = 10 * time.Second

// cause looks for one thing that can be wrong with a pod.
type cause func(pod *corev1.Pod, server Server, now time.Time) *Finding

// causes are looked for in this order, and the first that is found counts: each explains what comes after it.
var causes = []cause{
	nodeIsLost,
	terminatesTooLong,
	podHasFailed,
	cannotBeScheduled,
	initContainersFail,
	containersFail,
	doesNotAnswer,
	waitsForGate,
}

// Pod says what is wrong with a pod; nil when it works, or is on its way.
func Pod(pod *corev1.Pod, server Server, now time.Time) *Finding {
	for _, find := range causes {
		if finding := find(pod, server, now); finding != nil {
			return finding
		}
	}
	return nil
}

// LookAgain returns after what time a pod that is not ready has to be looked at again, because what is wrong with it shows by
// nothing but the time that passes. Zero: there is no need.
func LookAgain(pod *corev1.Pod, now time.Time) time.Duration {
	var next time.Duration
	for _, deadline := range []time.Time{scheduleDeadline(pod), startDeadline(pod), answerDeadline(pod), gateDeadline(pod), terminationDeadline(pod)} {
		if left := deadline.Sub(now); !deadline.IsZero() && left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	if next == 0 && takesItsTime(pod) && Pod(pod, Server{}, now) == nil {
		return answerWithin
	}
	return next
}

// takesItsTime reports whether a pod is on its way and may take any time, such as for an image or an init container. That its
// containers run then changes nothing that is told, so that no event of it asks for a look.
func takesItsTime(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && !isTrue(pod, corev1.PodReady) &&
		scheduleDeadline(pod).IsZero() && startDeadline(pod).IsZero() && answerDeadline(pod).IsZero() && gateDeadline(pod).IsZero()
}

// WaitsToStart reports whether a pod has been scheduled for a while, and no container of it was started, without the pod
// saying why. Its events may: see Start.
func WaitsToStart(pod *corev1.Pod, now time.Time) bool {
	deadline := startDeadline(pod)
	return !deadline.IsZero() && !now.Before(deadline)
}

// startDeadline is when a pod has taken too long until its containers can be created; zero for other pods. The volumes are
// mounted and the network is there when PodReadyToStartContainers is True: what takes time then is a pull of an image.
func startDeadline(pod *corev1.Pod) time.Time {
	scheduled := condition(pod, corev1.PodScheduled)
	if pod.Status.Phase != corev1.PodPending || !pod.DeletionTimestamp.IsZero() ||
		scheduled == nil || scheduled.Status != corev1.ConditionTrue || isTrue(pod, corev1.PodReadyToStartContainers) {
		return time.Time{}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			if w := status.State.Waiting; w == nil || !isOnItsWay(w.Reason) {
				return time.Time{}
			}
		}
	}
	return scheduled.LastTransitionTime.Add(startWithin)
}

// isOnItsWay reports whether a container waits for nothing but its start.
func isOnItsWay(reason string) bool {
	return reason == "" || reason == "ContainerCreating" || reason == "PodInitializing"
}

func condition(pod *corev1.Pod, conditionType corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == conditionType {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func isTrue(pod *corev1.Pod, conditionType corev1.PodConditionType) bool {
	found := condition(pod, conditionType)
	return found != nil && found.Status == corev1.ConditionTrue
}

// IsServing reports whether a pod is ready and is not being deleted: traffic reaches it.
func IsServing(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && isTrue(pod, corev1.PodReady)
}

// nodeOf names the node of a pod.
func nodeOf(pod *corev1.Pod) string { return cmp.Or(pod.Spec.NodeName, "unknown") }
