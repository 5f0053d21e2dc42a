package reconcile

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

func TestTheNextLookIsAtTheFirstThatIsDue(t *testing.T) {
	now := metav1.Now()
	s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: now}
	if got := nextLook(s, plan.Plan{}, nil, false, 0); got != 0 {
		t.Errorf("without a reason: %s", got)
	}
	if got := nextLook(s, plan.Plan{}, nil, true, 0); got != settleAfter {
		t.Errorf("with a stale status: %s", got)
	}
	field := plan.Results{{Step: plan.Step{Action: plan.BackOff, Until: now.Add(5 * time.Minute)}, Outcome: plan.Nothing}}
	if got := nextLook(s, plan.Plan{}, field, false, 0); got != 5*time.Minute {
		t.Errorf("with a fight over a field: %s", got)
	}
	s.Server.Status.Scale = &v1beta1.ScaleStatus{TakeBacks: &v1beta1.ScaleTakeBacks{From: "kubectl", Count: scale.FightAfter, Since: now, Last: now}}
	fight := plan.Plan{Scale: scale.Verdict{Action: scale.BackOff, RetryAt: now.Add(10 * time.Second)}}
	if got := nextLook(s, fight, field, false, 0); got != 10*time.Second {
		t.Errorf("with a fight over the scale as well: %s", got)
	}
	if got := nextLook(s, fight, field, false, 2*time.Second); got != 2*time.Second {
		t.Errorf("with a delayed report as well: %s", got)
	}
}

// TestStrayPodsAreLookedAtLessAndLessOften verifies that the interval grows, because each check is a request to the API server.
func TestStrayPodsAreLookedAtLessAndLessOften(t *testing.T) {
	s := &observe.Snapshot{Server: &v1beta1.MCPServer{}, Now: metav1.Now(), Stray: []string{"web-0"}}
	for unready, want := range map[time.Duration]time.Duration{0: settleAfter, 20 * time.Second: 10 * time.Second, time.Hour: strayMost} {
		s.Server.Status.Conditions = []metav1.Condition{{
			Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(s.Now.Add(-unready)),
		}}
		if got := nextLook(s, plan.Plan{}, nil, false, 0); got != want {
			t.Errorf("not ready for %s: %s", unready, got)
		}
	}
}
