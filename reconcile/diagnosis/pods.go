package diagnosis

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// terminationSlack is how much later than its grace period a pod may go: the kubelet needs a moment to clean up.
const terminationSlack = 30 * time.Second

// nodeIsLost finds a pod whose node no longer reports. The node controller of Kubernetes then sets Ready to False, and cannot
// know how the containers are, so that their condition stays as it was. The operator has no permission on nodes.
func nodeIsLost(pod *corev1.Pod, _ Server, _ time.Time) *Finding {
	ready := condition(pod, corev1.PodReady)
	if ready == nil || ready.Status != corev1.ConditionFalse || !isTrue(pod, corev1.ContainersReady) || closedGate(pod) != "" {
		return nil
	}
	return &Finding{NodeLost, fmt.Sprintf("its node %q does not report to Kubernetes. Kubernetes does not replace the pod while it may still run there. "+
		"Repair the node. If the node is gone for good, run: kubectl delete node %s", nodeOf(pod), nodeOf(pod))}
}

// terminationDeadline is when a pod that is being deleted should be gone; zero for others. The time of the deletion includes
// the grace period.
func terminationDeadline(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp.IsZero() {
		return time.Time{}
	}
	return pod.DeletionTimestamp.Add(terminationSlack)
}

// terminatesTooLong finds a pod that should be gone. Kubernetes creates no other of its name before it is.
func terminatesTooLong(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	deadline := terminationDeadline(pod)
	switch {
	case deadline.IsZero() || now.Before(deadline):
		return nil
	case len(pod.Finalizers) > 0:
		return &Finding{TerminatingTooLong, fmt.Sprintf("it is being deleted, and the finalizer %s keeps it. "+
			"Whoever set the finalizer has to remove it", quote(pod.Finalizers[0]))}
	default:
		return &Finding{TerminatingTooLong, fmt.Sprintf("it should have ended by now, and its node %q has not confirmed that it has. "+
			"Look at the node. If it is gone for good, run: kubectl delete node %s", nodeOf(pod), nodeOf(pod))}
	}
}

// podHasFailed finds a pod that ended as a whole, such as one that the kubelet has evicted.
func podHasFailed(pod *corev1.Pod, _ Server, _ time.Time) *Finding {
	if pod.Status.Phase != corev1.PodFailed {
		return nil
	}
	if pod.Status.Reason == "Evicted" {
		return &Finding{Evicted, fmt.Sprintf("the kubelet has evicted it from node %q: %s. Kubernetes replaces it; "+
			"to keep it from happening again, set requests for what the node ran out of", nodeOf(pod), quote(pod.Status.Message))}
	}
	message := "it has failed"
	if pod.Status.Reason != "" {
		message += " (" + quote(pod.Status.Reason) + ")"
	}
	if pod.Status.Message != "" {
		message += ": " + quote(pod.Status.Message)
	}
	return &Finding{PodFailed, message + ". Kubernetes replaces it"}
}

// cannotBeScheduled finds a pod for which there is no node, or no scheduler.
func cannotBeScheduled(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	scheduled := condition(pod, corev1.PodScheduled)
	deadline := scheduleDeadline(pod)
	switch {
	case !deadline.IsZero() && !now.Before(deadline):
		return &Finding{Unschedulable, "no scheduler has looked at it. Check that the scheduler runs which schedulerName in spec.podTemplateSpec names; " +
			"left out, it is default-scheduler"}
	case scheduled == nil || scheduled.Status != corev1.ConditionFalse:
		return nil
	case scheduled.Reason == corev1.PodReasonSchedulingGated:
		return &Finding{SchedulingGated, "it has scheduling gates, and is not scheduled before whoever set them has removed them"}
	default:
		return &Finding{Unschedulable, fmt.Sprintf("no node can run it: %s. The scheduler goes on trying", quote(scheduled.Message))}
	}
}

// scheduleDeadline is when a scheduler should have looked at a pod; zero for one at which a scheduler has, or need not look.
func scheduleDeadline(pod *corev1.Pod) time.Time {
	if condition(pod, corev1.PodScheduled) != nil || pod.Spec.NodeName != "" || pod.CreationTimestamp.IsZero() || !pod.DeletionTimestamp.IsZero() {
		return time.Time{}
	}
	return pod.CreationTimestamp.Add(startWithin)
}

// waitsForGate finds a pod whose containers are ready, and which somebody else does not let become ready.
func waitsForGate(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	deadline := gateDeadline(pod)
	if deadline.IsZero() || now.Before(deadline) {
		return nil
	}
	return &Finding{ReadinessGate, fmt.Sprintf("its containers are ready, and its readiness gate %s is not. Whoever set the gate in its template has to set "+
		"that condition of the pod to True", quote(closedGate(pod)))}
}

// gateDeadline is when the readiness gates of a pod whose containers are ready should be open; zero for other pods.
func gateDeadline(pod *corev1.Pod) time.Time {
	if !pod.DeletionTimestamp.IsZero() || !isTrue(pod, corev1.ContainersReady) || closedGate(pod) == "" {
		return time.Time{}
	}
	return condition(pod, corev1.ContainersReady).LastTransitionTime.Add(answerWithin)
}

// closedGate names the first readiness gate of a pod that is not open; empty when all are.
func closedGate(pod *corev1.Pod) string {
	for _, gate := range pod.Spec.ReadinessGates {
		if !isTrue(pod, gate.ConditionType) {
			return string(gate.ConditionType)
		}
	}
	return ""
}
