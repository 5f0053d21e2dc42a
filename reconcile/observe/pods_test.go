package observe

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// podWith returns a pod with a container in the given state.
func podWith(ready bool, status corev1.ContainerStatus) *corev1.Pod {
	status.Name, status.Ready = "mcp", ready
	answers := corev1.ConditionFalse
	if ready {
		answers = corev1.ConditionTrue
	}
	return &corev1.Pod{
		Spec: corev1.PodSpec{NodeName: "a"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: corev1.ContainersReady, Status: answers}, {Type: corev1.PodReady, Status: answers},
			},
			ContainerStatuses: []corev1.ContainerStatus{status},
		},
	}
}

func running() corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}
}

func waiting(reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "because"}}}
}

func killed() corev1.ContainerStatus {
	status := running()
	status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137, FinishedAt: metav1.Now()}
	return status
}

func deleted(pod *corev1.Pod) *corev1.Pod {
	pod.DeletionTimestamp = ptr.To(metav1.NewTime(time.Now().Add(30 * time.Second)))
	return pod
}

// gated changes a pod so that its containers are ready, but its readiness gate is not.
func gated(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	pod.Status.Conditions[1] = corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	return pod
}

// podStates are pods in different states. If tell is true, the status must report on the pod.
var podStates = map[string]struct {
	pod  *corev1.Pod
	tell bool
}{
	"serves":                 {podWith(true, running()), false},
	"is being created":       {podWith(false, waiting("ContainerCreating")), false},
	"starts":                 {podWith(false, running()), false},
	"cannot pull its image":  {podWith(false, waiting("ImagePullBackOff")), true},
	"was killed, and serves": {podWith(true, killed()), true},
	"is being deleted":       {deleted(podWith(true, running())), true},
	"no scheduler processes": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()}, Status: corev1.PodStatus{Phase: corev1.PodPending}}, false},
	"waits for a gate":       {gated(podWith(false, running())), false},
}

// TestAPodThatIsNewToAWatchIsLookedAtWhenThereIsSomethingToTell verifies when a new pod triggers a pass. A pod can be new to a watch after an
// interruption of the watch.
func TestAPodThatIsNewToAWatchIsLookedAtWhenThereIsSomethingToTell(t *testing.T) {
	for name, state := range podStates {
		if got := PodChanged.Create(event.CreateEvent{Object: state.pod}); got != state.tell {
			t.Errorf("a pod that %s triggers a pass: %t", name, got)
		}
	}
}

// TestAPodAsksForAPassWhenThereIsSomethingElseToTell tests the change from each state to each state.
func TestAPodAsksForAPassWhenThereIsSomethingElseToTell(t *testing.T) {
	for from, before := range podStates {
		for to, after := range podStates {
			want := from != to && (before.tell || after.tell)
			if got := PodChanged.Update(event.UpdateEvent{ObjectOld: before.pod, ObjectNew: after.pod}); got != want {
				t.Errorf("a pod that %s, and then %s, triggers a pass: %t", from, to, got)
			}
		}
	}
}

// TestAPodThatIsGoneAsksForAPassIfItWasToldToBeTerminating verifies that the deletion of a terminating pod triggers a pass, because the message
// of the condition must change.
func TestAPodThatIsGoneAsksForAPassIfItWasToldToBeTerminating(t *testing.T) {
	for name, want := range map[string]bool{"serves": false, "is being deleted": true} {
		if got := PodChanged.Delete(event.DeleteEvent{Object: podStates[name].pod}); got != want {
			t.Errorf("the deletion of a pod that %s triggers a pass: %t", name, got)
		}
	}
}
