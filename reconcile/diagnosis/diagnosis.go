// Package diagnosis explains why pods do not work: what is wrong and what the reader can do. It uses only the pods and events that are
// passed to it, and does not depend on MCPServer.
//
// Messages quote the texts of other components, such as the kubelet, an admission webhook or the server, up to a maximum length.
package diagnosis

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Reason is the kind of a finding. It can be used as the reason of a condition.
type Reason string

// The reasons. If the kubelet has a name for the state, the reason is that name.
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

// Reasons lists the reasons of the findings of this package.
var Reasons = []Reason{
	NodeLost, TerminatingTooLong, Evicted, PodFailed, SchedulingGated, Unschedulable, ImagePullFailed, RootRefused, ReferenceMissing,
	ContainerInvalid, OOMKilled, CrashLoopBackOff, NotAnswering, ReadinessGate, VolumeNotMounted, SandboxNotCreated, PodNotCreated, SurplusPods,
}

// Finding is one problem of a pod.
type Finding struct {
	Reason Reason
	// Message is what is wrong and what the reader can do. It has no final period.
	Message string
}

// Server describes the server in the pods.
type Server struct {
	// Container is the name of the container of the server.
	Container string
	// Port is the port on which the container must listen.
	Port int32
	// IsStdio is true if the server speaks on its standard input and output, so that something else in its pod must listen on the port.
	IsStdio bool
	// Startup is how long the startup probe may fail before the kubelet ends the container. Zero if there is no startup probe.
	Startup time.Duration
	// Grace is the termination grace period of the container.
	Grace time.Duration
}

// answerWithin is how long a container may run without being ready before this is a finding. Most servers are ready within seconds. A
// server that first installs itself takes longer; its finding disappears when the server is ready.
const answerWithin = 20 * time.Second

// startWithin is how long a pod may wait for a scheduler, and then for the creation of its containers, before this is a finding. The
// kubelet waits 10 s and more between two attempts to mount a volume.
const startWithin = 10 * time.Second

// cause checks a pod for one kind of problem.
type cause func(pod *corev1.Pod, server Server, now time.Time) *Finding

// causes are checked in this order. The first finding counts, because it explains the later ones.
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

// Pod returns what is wrong with a pod; nil if the pod works or is still starting.
func Pod(pod *corev1.Pod, server Server, now time.Time) *Finding {
	for _, find := range causes {
		if finding := find(pod, server, now); finding != nil {
			return finding
		}
	}
	return nil
}

// LookAgain returns after what time to check a pod again that is not ready, because some problems show only by the passing of time. Zero if
// no further check is needed.
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

// takesItsTime reports whether a pod is starting and no deadline applies, for example while it pulls an image or runs an init container.
// When its containers then start, the finding does not change, so that no watch event triggers a check.
func takesItsTime(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && !isTrue(pod, corev1.PodReady) &&
		scheduleDeadline(pod).IsZero() && startDeadline(pod).IsZero() && answerDeadline(pod).IsZero() && gateDeadline(pod).IsZero()
}

// WaitsToStart reports whether no container of a scheduled pod has started within startWithin and the status of the pod gives no reason. Its
// events may give the reason: see Start.
func WaitsToStart(pod *corev1.Pod, now time.Time) bool {
	deadline := startDeadline(pod)
	return !deadline.IsZero() && !now.Before(deadline)
}

// startDeadline returns when the containers of a scheduled pod should be created; zero for other pods. When PodReadyToStartContainers is True,
// the volumes are mounted and the network is ready, and the pod only waits for an image.
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

// isOnItsWay reports whether a container waits only for its normal start.
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

// IsServing reports whether a pod receives traffic: it is ready and is not being deleted.
func IsServing(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && isTrue(pod, corev1.PodReady)
}

// nodeOf returns the name of the node of a pod.
func nodeOf(pod *corev1.Pod) string { return cmp.Or(pod.Spec.NodeName, "unknown") }
