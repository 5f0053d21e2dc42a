package diagnosis

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// terminationSlack is how long a pod may exist after its grace period: the kubelet needs time to clean up.
const terminationSlack = 30 * time.Second

// nodeIsLost finds a pod whose node no longer reports. The node controller of Kubernetes then sets Ready to False. It does not know the
// state of the containers, so that ContainersReady stays True. The operator has no permission to read nodes.
func nodeIsLost(pod *corev1.Pod, _ Server, _ time.Time) *Finding {
	ready := condition(pod, corev1.PodReady)
	if ready == nil || ready.Status != corev1.ConditionFalse || !isTrue(pod, corev1.ContainersReady) || closedGate(pod) != "" {
		return nil
	}
	return &Finding{NodeLost, fmt.Sprintf("its node %q does not report to Kubernetes. Kubernetes does not replace the pod while it may still run there. "+
		"Repair the node. If the node is permanently gone, run: kubectl delete node %s", nodeOf(pod), nodeOf(pod))}
}

// terminationDeadline returns when a pod that is being deleted should be gone; zero for other pods. DeletionTimestamp includes the grace
// period.
func terminationDeadline(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp.IsZero() {
		return time.Time{}
	}
	return pod.DeletionTimestamp.Add(terminationSlack)
}

// terminatesTooLong finds a pod that should be gone. Until it is, Kubernetes cannot create the new pod of the same name.
func terminatesTooLong(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	deadline := terminationDeadline(pod)
	switch {
	case deadline.IsZero() || now.Before(deadline):
		return nil
	case len(pod.Finalizers) > 0:
		return &Finding{TerminatingTooLong, fmt.Sprintf("it is being deleted, but the finalizer %s prevents this. "+
			"The controller that set the finalizer must remove it", quote(pod.Finalizers[0]))}
	default:
		return &Finding{TerminatingTooLong, fmt.Sprintf("its grace period is over, but its node %q has not confirmed that it has ended. "+
			"Check the node. If the node is permanently gone, run: kubectl delete node %s", nodeOf(pod), nodeOf(pod))}
	}
}

// podHasFailed finds a pod in phase Failed, such as an evicted pod.
func podHasFailed(pod *corev1.Pod, _ Server, _ time.Time) *Finding {
	if pod.Status.Phase != corev1.PodFailed {
		return nil
	}
	if pod.Status.Reason == "Evicted" {
		return &Finding{Evicted, fmt.Sprintf("the kubelet evicted it from node %q: %s. Kubernetes replaces it. "+
			"To avoid evictions, set requests for the resource that the node ran out of", nodeOf(pod), quote(pod.Status.Message))}
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

// cannotBeScheduled finds a pod that no node can run or that no scheduler processes.
func cannotBeScheduled(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	scheduled := condition(pod, corev1.PodScheduled)
	deadline := scheduleDeadline(pod)
	switch {
	case !deadline.IsZero() && !now.Before(deadline):
		return &Finding{Unschedulable, "no scheduler has processed it. Check that the scheduler runs that schedulerName in spec.podTemplateSpec names. " +
			"If schedulerName is unset, this is default-scheduler"}
	case scheduled == nil || scheduled.Status != corev1.ConditionFalse:
		return nil
	case scheduled.Reason == corev1.PodReasonSchedulingGated:
		return &Finding{SchedulingGated, "it has scheduling gates, and is not scheduled until they are removed. Check the controller that removes them"}
	default:
		return &Finding{Unschedulable, fmt.Sprintf("no node can run it: %s. The scheduler retries", quote(scheduled.Message))}
	}
}

// scheduleDeadline returns when a scheduler should have processed a pod; zero if a scheduler has, or does not have to.
func scheduleDeadline(pod *corev1.Pod) time.Time {
	if condition(pod, corev1.PodScheduled) != nil || pod.Spec.NodeName != "" || pod.CreationTimestamp.IsZero() || !pod.DeletionTimestamp.IsZero() {
		return time.Time{}
	}
	return pod.CreationTimestamp.Add(startWithin)
}

// waitsForGate finds a pod whose containers are ready and whose readiness gates are not.
func waitsForGate(pod *corev1.Pod, _ Server, now time.Time) *Finding {
	deadline := gateDeadline(pod)
	if deadline.IsZero() || now.Before(deadline) {
		return nil
	}
	return &Finding{ReadinessGate, fmt.Sprintf("its containers are ready, but its readiness gate %s is not. Check the controller that sets "+
		"this condition of the pod to True", quote(closedGate(pod)))}
}

// gateDeadline returns when the readiness gates must be True if the containers of a pod are ready; zero for other pods.
func gateDeadline(pod *corev1.Pod) time.Time {
	if !pod.DeletionTimestamp.IsZero() || !isTrue(pod, corev1.ContainersReady) || closedGate(pod) == "" {
		return time.Time{}
	}
	return condition(pod, corev1.ContainersReady).LastTransitionTime.Add(answerWithin)
}

// closedGate returns the first readiness gate of a pod that is not True; empty if all are.
func closedGate(pod *corev1.Pod) string {
	for _, gate := range pod.Spec.ReadinessGates {
		if !isTrue(pod, gate.ConditionType) {
			return string(gate.ConditionType)
		}
	}
	return ""
}
