package e2e

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// TestRemovedDeclarationLeavesThePodsAlone verifies that removing replicas from an MCPServer is a release, not a reset to 1.
func TestRemovedDeclarationLeavesThePodsAlone(t *testing.T) {
	testEnv.Test(t, feature("declared 3, removed, scaled by others, declared again").
		Assess("declared 3", all(apply(declared(3)), scaleIs(3), operatorOwnsTheScale())).
		Assess("after the removal, the scale stays at 3", holds(3,
			apply(undeclared), passesAreForced(3), everythingThatMustNotMoveTheScale(), scaleIs(3))).
		Assess("the operator does not own the scale", all(operatorDoesNotOwnTheScale(), annotationIsGone(),
			eventSays("ScaleReleased", "stays at 3"))).
		Assess("kubectl scale is kept", all(
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5),
			holds(5, everythingThatMustNotMoveTheScale(), scaleIs(5)))).
		Assess("a new declaration counts", all(apply(declared(2)), scaleIs(2), operatorOwnsTheScale())).
		Feature())
}

// TestDeclaredZeroStartsNoPod verifies that 0 at creation is 0 from the start.
func TestDeclaredZeroStartsNoPod(t *testing.T) {
	testEnv.Test(t, feature("declared 0 at creation").
		Assess("no pod is ever created", step(func(ctx context.Context, t *testing.T) {
			recorder, err := theCluster.RecordScale(ctx, client.ObjectKey{Namespace: in(ctx), Name: server})
			must(t, err)
			all(apply(declared(0)), scaleIs(0), passesAreForced(3))(ctx, t, nil)
			seen, err := recorder.Stop(ctx)
			must(t, err)
			if len(seen) != 1 || seen[0] != 0 {
				t.Fatalf("want scale 0 from the start, got %v", seen)
			}
			// An event outlives its pod.
			events, err := theCluster.Clients.CoreV1().Events(in(ctx)).List(ctx, listOptions)
			must(t, err)
			for _, event := range events.Items {
				if event.Reason == "SuccessfulCreate" && event.InvolvedObject.Kind == "StatefulSet" {
					t.Fatalf("a pod was created: %s", event.Message)
				}
			}
			var pods corev1.PodList
			must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx))))
			if len(pods.Items) > 0 {
				t.Fatalf("there are %d pods", len(pods.Items))
			}
		})).
		Assess("the MCPServer is Stopped", printed([]string{"Stopped"},
			"get", "mcpserver", server, "-o", "jsonpath={.status.phase}")).
		Feature())
}

// TestYield covers the default policy: a later scaling by others is kept until the declaration changes.
func TestYield(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Yield, then kubectl scale to 5").
		Assess("as declared", all(apply(declared(3)), scaleIs(3))).
		Assess("the operator yields", all(kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("the scale survives edits and a restart", holds(5, everythingThatMustNotMoveTheScale(), scaleIs(5))).
		Assess("the condition names the owner, the value and the remedies", all(
			operatorDoesNotOwnTheScale(),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded",
				"declares 3", `"kubectl"`, "to 5", "change spec.replicas", "Force", "remove spec.replicas"),
			eventSays("ScaleYielded", `"kubectl"`, "declares 3", "to 5"),
			printed([]string{"5/5", "kubectl"}, "get", "mcpservers"))).
		Assess("a changed declaration counts", all(apply(declared(4)), scaleIs(4), operatorOwnsTheScale(),
			conditionIsGone(v1beta1.ConditionScaleConflict),
			eventSays("ScaleDeclared", "declares 4", "from 5", `"kubectl"`))).
		Feature())
}

// TestForce covers the Force policy: the operator restores the declared number and names the manager that changed it.
func TestForce(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Force, then kubectl scale to 5").
		Assess("as declared", all(apply(declaredWith(3, v1beta1.ReplicasConflictForce)), scaleIs(3))).
		Assess("the operator restores the scale", all(
			kubectl("scale", "statefulset", server, "--replicas=5"),
			eventSays("ScaleTakenBack", `"kubectl"`, "to 5", "declared 3", "Yield"),
			scaleIs(3), operatorOwnsTheScale())).
		Feature())
}

// TestPolicyChange verifies that a change to Force restores the declared scale, and that a change to Yield changes nothing.
func TestPolicyChange(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Yield, scaled to 5, then Force, then Yield").
		Assess("yielded", all(apply(declared(3)), scaleIs(3),
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("Force restores the scale", all(apply(declaredWith(3, v1beta1.ReplicasConflictForce)), scaleIs(3), operatorOwnsTheScale())).
		Assess("Yield changes nothing", holds(3, apply(declared(3)), passesAreForced(3), scaleIs(3))).
		Assess("Yield does not change the owner", operatorOwnsTheScale()).
		Feature())
}

// TestScaleOfTheMCPServerDeclares verifies that kubectl scale on the MCPServer sets spec.replicas, even if it was unset.
func TestScaleOfTheMCPServerDeclares(t *testing.T) {
	testEnv.Test(t, feature("kubectl scale mcpserver").
		Assess("unset", all(apply(undeclared), scaleIs(1))).
		Assess("declares", all(kubectl("scale", "mcpserver/"+server, "--replicas=2"), scaleIs(2), operatorOwnsTheScale())).
		Assess("declares again", all(kubectl("scale", "mcpserver/"+server, "--replicas=0"), scaleIs(0))).
		Feature())
}
