package e2e

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// The recipes of docs/field-ownership.md, with the commands from there.

func TestRecipeFromDeclaredToAnAutoscaler(t *testing.T) {
	testEnv.Test(t, feature("declared 3").
		Assess("declared", all(apply(declared(3)), scaleIs(3))).
		Assess("no pod moves", holds(3,
			kubectl("patch", "mcpserver", "web", "--type=json", "-p", `[{"op": "remove", "path": "/spec/replicas"}]`),
			passesAreForced(2), operatorDoesNotOwnTheScale(),
			kubectl("autoscale", "statefulset", "web", "--min=2", "--max=6", "--cpu=80%"),
			passesAreForced(2))).
		Assess("the autoscaler decides", all(
			kubectl("patch", "hpa", "web", "--type=merge", "-p", `{"spec":{"minReplicas":4}}`), scaleIs(4))).
		Feature())
}

func TestRecipeFromAnAutoscalerToDeclared(t *testing.T) {
	testEnv.Test(t, feature("scaled by an autoscaler").
		Assess("to 4", all(apply(undeclared), apply(autoscaler("web", onStatefulSet, 4)), scaleIs(4))).
		Assess("as declared", all(
			kubectl("delete", "hpa", "web"), kubectl("scale", "mcpserver/web", "--replicas=3"), scaleIs(3), ownerIs("MCPServer"))).
		Feature())
}

func TestRecipeHoldDuringAnIncident(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Yield").
		Assess("declared", all(apply(declared(3)), scaleIs(3))).
		Assess("held", all(kubectl("scale", "statefulset", "web", "--replicas=10"), scaleIs(10),
			holds(10, passesAreForced(3), operatorRestarts()))).
		Assess("back", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"replicasConflictPolicy":"Force"}}`), scaleIs(3),
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"replicasConflictPolicy":"Yield"}}`), scaleIs(3),
			ownerIs("MCPServer"))).
		Feature())
}

func TestRecipeRecreateLosslessly(t *testing.T) {
	var before []types.UID
	testEnv.Test(t, feature("delegated, scaled to 3").
		Assess("scaled", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=3"), scaleIs(3),
			podsAreRemembered(&before))).
		Assess("comes back with the same pods", all(
			kubectl("delete", "statefulset", "web", "--cascade=orphan"), childrenAreThere(), scaleIs(3),
			podsAreStill(&before))).
		Feature())
}
