package reconcile

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// TestAPodThatIsNewToAWatchWithAProblemIsLookedAt: as after a watch that was cut. One without is not.
func TestAPodThatIsNewToAWatchWithAProblemIsLookedAt(t *testing.T) {
	unschedulable := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable},
	}}}
	if !podProblemChanged.Create(event.CreateEvent{Object: unschedulable}) {
		t.Error("a pod that cannot be scheduled goes unnoticed")
	}
	if podProblemChanged.Create(event.CreateEvent{Object: &corev1.Pod{}}) {
		t.Error("a pod that is on its way asks for a pass")
	}
}
