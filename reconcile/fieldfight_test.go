package reconcile

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// TestADecisionAboutTheScaleDoesNotWaitForAFight: it is in the StatefulSet, so that a fight over another child goes on.
func TestADecisionAboutTheScaleDoesNotWaitForAFight(t *testing.T) {
	for _, row := range []struct {
		child   client.Object
		verdict scaleAction
		waits   bool
	}{
		{&appsv1.StatefulSet{}, scaleDeclare, false},
		{&appsv1.StatefulSet{}, scaleKeep, true},
		{&corev1.Service{}, scaleDeclare, true},
	} {
		p := &pass{server: &v1alpha1.MCPServer{}, verdict: scaleVerdict{Action: row.verdict}}
		taken := []takeover{{manager: "meddler", fields: []string{".spec"}}}
		if got := p.backsOff(start.Add(time.Minute), row.child, taken); got != row.waits {
			t.Errorf("%T while the verdict is %s: waits %t", row.child, row.verdict, got)
		}
	}
}
