package e2e

import (
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestDelegatedScaleStaysWhereItIsPut verifies that an MCPServer without replicas leaves the scale to other managers.
func TestDelegatedScaleStaysWhereItIsPut(t *testing.T) {
	for how, scaleToThree := range map[string]features.Func{
		"kubectl scale": kubectl("scale", "statefulset", server, "--replicas=3"),
		"apply by another field manager, without --force-conflicts": applyAs("platform-team", `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec: {replicas: 3}
`),
		"kubectl patch": kubectl("patch", "statefulset", server, "--type=merge", "-p", `{"spec":{"replicas":3}}`),
		"a HorizontalPodAutoscaler": apply(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  minReplicas: 3
  maxReplicas: 3
`),
	} {
		testEnv.Test(t, feature(how).
			Assess("starts with one pod", all(apply(undeclared), scaleIs(1))).
			Assess("the scale follows the other manager", all(scaleToThree, scaleIs(3))).
			Assess("the scale stays", holds(3, everythingThatMustNotMoveTheScale(), scaleIs(3))).
			Assess("the operator does not own the scale", operatorDoesNotOwnTheScale()).
			Feature())
	}
}
