package status

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mcpserver-operator/crd/v1beta1"
)

// statusOf returns a status of 3 replicas, some of them ready.
func statusOf(readyReplicas int32, generation int64, conditions []metav1.Condition) *v1beta1.MCPServerStatus {
	status := &v1beta1.MCPServerStatus{
		ObservedGeneration: generation, Replicas: 3, ReadyReplicas: readyReplicas,
		Scale: &v1beta1.ScaleStatus{Replicas: 3, Owner: "Nobody"},
	}
	setConditions(status, conditions, metav1.Unix(1, 0))
	return status
}

func TestOnlyReportsOfProgressWait(t *testing.T) {
	last := statusOf(0, 1, reconciling(reasonProgressing, "0 of 3 pods are up to date"))
	scaled := statusOf(1, 1, reconciling(reasonPodsNotReady, "1 of 3 pods are ready"))
	scaled.Scale.Replicas = 4
	conflict := statusOf(1, 1, append(reconciling(reasonPodsNotReady, "1 of 3 pods are ready"),
		metav1.Condition{Type: v1beta1.ConditionScaleConflict, Status: metav1.ConditionTrue, Reason: reasonScaleYielded}))

	for name, test := range map[string]struct {
		next  *v1beta1.MCPServerStatus
		waits bool
	}{
		"more pods are ready":      {statusOf(1, 1, reconciling(reasonPodsNotReady, "1 of 3 pods are ready")), true},
		"a pod does not start":     {statusOf(0, 1, reconciling(reasonPodsNotReady, "0 of 3 pods are ready: pod web-0: ImagePullBackOff")), true},
		"no change":                {last, false},
		"all pods are ready":       {statusOf(3, 1, ready(reasonPodsReady, "3 of 3 pods are ready")), false},
		"another generation":       {statusOf(1, 2, reconciling(reasonPodsNotReady, "1 of 3 pods are ready")), false},
		"another scale":            {scaled, false},
		"a conflict":               {conflict, false},
		"a pass that failed":       {statusOf(0, 1, reconciling(reasonPassFailed, "the API server is away")), false},
		"an action for the user":   {statusOf(0, 1, stalled(reasonRejected, "no")), false},
		"nothing was reported yet": {&v1beta1.MCPServerStatus{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isProgressOnly(last, test.next); got != test.waits {
				t.Errorf("the report waits: %v", got)
			}
			if isProgressOnly(&v1beta1.MCPServerStatus{}, test.next) {
				t.Error("the first report waits")
			}
		})
	}
}

func TestAReportOfProgressWaitsOnce(t *testing.T) {
	var reports Progress
	server := types.NamespacedName{Namespace: "team", Name: "web"}
	last := statusOf(0, 1, reconciling(reasonProgressing, "0 of 3 pods are up to date"))
	one := statusOf(1, 1, reconciling(reasonPodsNotReady, "1 of 3 pods are ready"))
	two := statusOf(2, 1, reconciling(reasonPodsNotReady, "2 of 3 pods are ready"))
	now := time.Now()

	for _, step := range []struct {
		what  string
		next  *v1beta1.MCPServerStatus
		after time.Duration
		wait  time.Duration
	}{
		{"the first progress waits", one, 0, progressAfter},
		{"further progress does not extend the wait", two, 3 * time.Second, progressAfter - 3*time.Second},
		{"a clock that is set back does not extend the wait", two, -time.Hour, progressAfter},
		{"the report is due", two, progressAfter, 0},
		{"the report stays due until it is written", two, progressAfter + time.Second, 0},
	} {
		if got := reports.Postpone(server, last, step.next, now.Add(step.after)); got != step.wait {
			t.Errorf("%s: got %s, wanted %s", step.what, got, step.wait)
		}
	}
	reports.Forget(server)
	if got := reports.Postpone(server, last, two, now); got != progressAfter {
		t.Errorf("progress after a report must wait again: got %s", got)
	}
	reports.Forget(server)
	if len(reports.since) != 0 {
		t.Error("a deleted MCPServer is still in memory")
	}
}
