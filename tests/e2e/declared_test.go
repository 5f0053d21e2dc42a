package e2e

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// TestRemovedDeclarationLeavesThePodsAlone: taking replicas out of an MCPServer is a release, not a reset to 1.
func TestRemovedDeclarationLeavesThePodsAlone(t *testing.T) {
	testEnv.Test(t, feature("declared 3, removed, scaled by others, declared again").
		Assess("as declared", all(apply(declared(3)), scaleIs(3), operatorOwnsTheScale())).
		Assess("removed: 3 throughout", holds(3,
			apply(undeclared), passesAreForced(3), everythingThatMustNotMoveTheScale(), scaleIs(3))).
		Assess("the claim is given up", all(operatorDoesNotOwnTheScale(), annotationIsGone(),
			eventSays("ScaleReleased", "stays at 3"))).
		Assess("kubectl scale holds", all(
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5),
			holds(5, everythingThatMustNotMoveTheScale(), scaleIs(5)))).
		Assess("declared again: as declared", all(apply(declared(2)), scaleIs(2), operatorOwnsTheScale())).
		Feature())
}

// TestDeclaredZeroStartsNoPod: 0 at creation is 0 from the first instant.
func TestDeclaredZeroStartsNoPod(t *testing.T) {
	testEnv.Test(t, feature("declared 0 at creation").
		Assess("no pod is ever created", step(func(ctx context.Context, t *testing.T) {
			recorder, err := theCluster.RecordScale(ctx, client.ObjectKey{Namespace: in(ctx), Name: server})
			must(t, err)
			all(apply(declared(0)), scaleIs(0), passesAreForced(3))(ctx, t, nil)
			seen, err := recorder.Stop(ctx)
			must(t, err)
			if len(seen) != 1 || seen[0] != 0 {
				t.Fatalf("the scale has to be 0 from the start, but was %v", seen)
			}
			// An event stays when its pod is gone.
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
		Assess("and the MCPServer is Stopped", printed([]string{"Stopped"},
			"get", "mcpserver", server, "-o", "jsonpath={.status.phase}")).
		Feature())
}

// TestYield: the default policy. Whoever scales after a declaration keeps the scale, until the declaration changes.
func TestYield(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Yield, then kubectl scale to 5").
		Assess("as declared", all(apply(declared(3)), scaleIs(3))).
		Assess("yields", all(kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("holds through edits and a restart", holds(5, everythingThatMustNotMoveTheScale(), scaleIs(5))).
		Assess("and says who holds it, at what value, and the way out", all(
			operatorDoesNotOwnTheScale(),
			conditionSays(v1alpha1.ConditionScaleConflict, "ScaleYielded",
				"declares 3", `"kubectl"`, "to 5", "change spec.replicas", "Force", "remove spec.replicas"),
			eventSays("ScaleYielded", `"kubectl"`, "declares 3", "to 5"),
			printed([]string{"5/5", "kubectl"}, "get", "mcpservers"))).
		Assess("a changed declaration counts again", all(apply(declared(4)), scaleIs(4), operatorOwnsTheScale(),
			conditionIsGone(v1alpha1.ConditionScaleConflict),
			eventSays("ScaleDeclared", "declares 4", "from 5", `"kubectl"`))).
		Feature())
}

// TestForce: the other policy. The declared number is put back, and the user is told who had changed it.
func TestForce(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Force, then kubectl scale to 5").
		Assess("as declared", all(apply(declaredWith(3, v1alpha1.ReplicasConflictForce)), scaleIs(3))).
		Assess("puts it back", all(
			kubectl("scale", "statefulset", server, "--replicas=5"),
			eventSays("ScaleTakenBack", `"kubectl"`, "to 5", "declared 3", "Yield"),
			scaleIs(3), operatorOwnsTheScale())).
		Feature())
}

// TestPolicyChange: switching to Force takes the scale back, switching to Yield changes nothing.
func TestPolicyChange(t *testing.T) {
	testEnv.Test(t, feature("declared 3 with Yield, scaled to 5, then Force, then Yield").
		Assess("yielded", all(apply(declared(3)), scaleIs(3),
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("Force takes", all(apply(declaredWith(3, v1alpha1.ReplicasConflictForce)), scaleIs(3), operatorOwnsTheScale())).
		Assess("Yield changes nothing", holds(3, apply(declared(3)), passesAreForced(3), scaleIs(3))).
		Assess("nor who owns it", operatorOwnsTheScale()).
		Feature())
}

// TestScaleOfTheMCPServerDeclares: kubectl scale on the MCPServer sets spec.replicas, also when it was unset.
func TestScaleOfTheMCPServerDeclares(t *testing.T) {
	testEnv.Test(t, feature("kubectl scale mcpserver").
		Assess("unset", all(apply(undeclared), scaleIs(1))).
		Assess("declares", all(kubectl("scale", "mcpserver/"+server, "--replicas=2"), scaleIs(2), operatorOwnsTheScale())).
		Assess("again", all(kubectl("scale", "mcpserver/"+server, "--replicas=0"), scaleIs(0))).
		Feature())
}
