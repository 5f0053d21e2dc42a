package e2e

import (
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestTheRecordOfTheScaleIsPutBack verifies that the operator restores a status that was removed or edited. A recreated StatefulSet
// starts at the scale in the status.
func TestTheRecordOfTheScaleIsPutBack(t *testing.T) {
	status := func(patch string) features.Func {
		return kubectl("patch", "mcpserver", "web", "--subresource=status", "--type=json", "-p", patch)
	}
	testEnv.Test(t, feature("the status of an MCPServer").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", "web", "--replicas=5"), scaleIs(5), kubectl("scale", "statefulset", "web", "--replicas=4"), scaleIs(4),
			applyForcedAs("gitops", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {replicas: 3}}`), scaleIs(3), ownerIs("gitops"))).
		Assess("is rebuilt when it is removed", holds(3, status(`[{"op":"remove","path":"/status"}]`),
			eventuallyPrints("gitops", "mcpserver/web", ".status.scale.transfers[0].to"), ownerIs("gitops"), scaleIs(3))).
		Assess("is restored when it is edited", holds(3,
			status(`[{"op":"remove","path":"/status/scale/transfers"},{"op":"replace","path":"/status/scale/since","value":"2199-01-01T00:00:00Z"},{"op":"replace","path":"/status/scale/replicas","value":9}]`),
			eventuallyPrints("gitops", "mcpserver/web", ".status.scale.transfers[0].to"), eventuallyPrints("3", "mcpserver/web", ".status.scale.replicas"))).
		Assess("the scale is kept when the status is removed, even if the StatefulSet is deleted too", holds(3,
			kubectl("delete", "statefulset", "web", "--cascade=background", "--wait=false"), status(`[{"op":"remove","path":"/status"}]`), scaleIs(3))).
		Feature())
}
