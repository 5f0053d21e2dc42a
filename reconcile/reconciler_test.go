package reconcile

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// TestTheNextLookIsAtTheFirstFight: a fight over another field, which may wait for minutes, does not hide that the scale is
// to be taken back earlier.
func TestTheNextLookIsAtTheFirstFight(t *testing.T) {
	now := metav1.Now()
	p := &pass{server: &v1alpha1.MCPServer{}, now: now}
	if got := p.nextLook(); got != 0 {
		t.Errorf("without a fight: %s", got)
	}
	p.behind = true
	if got := p.nextLook(); got != settleAfter {
		t.Errorf("on a status from before a write: %s", got)
	}
	p.behind, p.retryAt = false, now.Add(5*time.Minute)
	if got := p.nextLook(); got != 5*time.Minute {
		t.Errorf("with a fight over a field: %s", got)
	}
	p.server.Status.Scale = &v1alpha1.ScaleStatus{TakeBacks: &v1alpha1.ScaleTakeBacks{From: "kubectl", Count: fightAfter, Since: now, Last: now}}
	p.verdict = scaleVerdict{Action: scaleBackOff, RetryAt: now.Add(10 * time.Second)}
	if got := p.nextLook(); got != 10*time.Second {
		t.Errorf("with one over the scale as well: %s", got)
	}
}

// TestWhatIsNotCarriedOutYetIsRepeatedBeforeReports: a pass on an old cache has more to write, one that created the
// StatefulSet has more to report.
func TestWhatIsNotCarriedOutYetIsRepeatedBeforeReports(t *testing.T) {
	for name, test := range map[string]struct {
		pass            pass
		writes, reports bool
	}{
		"an old cache":                {pass{stale: true}, true, false},
		"a child that was taken over": {pass{migrated: true}, true, false},
		"a release":                   {pass{wroteStatefulSet: true, verdict: scaleVerdict{Action: scaleRelease}}, true, true},
		"a new StatefulSet":           {pass{wroteStatefulSet: true}, false, true},
		"nothing":                     {pass{}, false, false},
	} {
		if got := test.pass.hasMoreToWrite(); got != test.writes {
			t.Errorf("%s has more to write: %t", name, got)
		}
		if got := test.pass.isOutdated(); got != test.reports {
			t.Errorf("%s has more to report: %t", name, got)
		}
	}
}
