package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestApplyByASecondManager verifies that a second field manager meets a conflict, and that nothing changes until it forces the apply.
func TestApplyByASecondManager(t *testing.T) {
	testEnv.Test(t, feature("kubectl apply --server-side by two field managers").
		Assess("the first declares", all(applyAs("team-a", declared(3)), scaleIs(3), declarationIsOwnedBy("team-a/Apply"))).
		Assess("the second meets a conflict", holds(3,
			refused(`Apply failed with 1 conflict: conflict with "team-a": .spec.replicas`, declared(2), "apply", "--server-side", "--field-manager=team-b", "-f", "-"),
			passesAreForced(1))).
		Assess("the second forces the conflict and declares", scaleGoes([]int32{3, 2},
			applyForcedAs("team-b", declared(2)), scaleIs(2), declarationIsOwnedBy("team-b/Apply"), ownerIs("MCPServer"))).
		Assess("an apply of the StatefulSet with replicas meets a conflict as well", holds(2,
			refused(`conflict with "mcpserver-operator": .spec.replicas`, threeReplicas, "apply", "--server-side", "--field-manager=team-c", "-f", "-"),
			passesAreForced(1), scaleIsOwnedBy("mcpserver-operator/Apply"))).
		Assess("the apply forces the conflict and scales", scaleGoes([]int32{2, 3},
			applyForcedAs("team-c", threeReplicas), scaleIs(3), scaleIsOwnedBy("team-c/Apply"), ownerIs("team-c"), passesAreForced(2),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded", `"team-c"`, "declares 2", "to 3"))).
		Assess("without a field manager, the owner is kubectl", scaleGoes([]int32{3, 4},
			kubectlOf(strings.ReplaceAll(threeReplicas, "3", "4"), "apply", "--server-side", "--force-conflicts", "-f", "-"),
			scaleIs(4), scaleIsOwnedBy("kubectl/Apply"), ownerIs("kubectl"))).
		Assess("with the policy Force, the operator restores the scale", all(
			applyForcedAs("team-b", declaredWith(2, v1beta1.ReplicasConflictForce)), scaleIs(2), ownerIs("MCPServer"),
			scaleGoes([]int32{2, 3, 2}, applyForcedAs("team-c", threeReplicas), eventSays("ScaleTakenBack", `"team-c"`), scaleIs(2)))).
		Feature())
}

// TestClientSideApply verifies that leaving out, declaring and removing replicas mean the same with client-side kubectl apply, also
// during the migration to server-side apply.
func TestClientSideApply(t *testing.T) {
	clientSide := func(manifest string) features.Func { return kubectlOf(manifest, "apply", "-f", "-") }
	testEnv.Test(t, feature("kubectl apply").
		Assess("without replicas, leaves the scale alone", all(clientSide(undeclared), scaleIs(1),
			kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2), holds(2, clientSide(undeclared), passesAreForced(1)))).
		Assess("with replicas, declares them", scaleGoes([]int32{2, 3}, clientSide(declared(3)), scaleIs(3), ownerIs("MCPServer"))).
		Assess("removing replicas from the manifest is a release", holds(3,
			clientSide(undeclared), eventSays("ScaleReleased", "stays at 3"), passesAreForced(1), scaleIsOwnedBy())).
		Assess("the migration to server-side apply meets no conflict", all(
			clientSide(declared(2)), scaleIs(2),
			holds(2, applyAs("kubectl", declared(2)), passesAreForced(1), declarationIsOwnedBy("kubectl/Apply")))).
		Assess("removing replicas with server-side apply is a release", holds(2, applyAs("kubectl", undeclared), passesAreForced(1), scaleIsOwnedBy(), scaleIs(2))).
		Assess("kubectl replace without replicas is a release", all(applyAs("kubectl", declared(3)), scaleIs(3),
			holds(3, kubectlOf(undeclared, "replace", "-f", "-"), passesAreForced(1), scaleIsOwnedBy(), scaleIs(3)))).
		Feature())
	testEnv.Test(t, feature("kubectl apply, then server-side apply without replicas at once").
		Assess("is a release", all(clientSide(declared(3)), scaleIs(3),
			holds(3, applyAs("kubectl", undeclared), passesAreForced(1), scaleIsOwnedBy(), scaleIs(3)))).
		Assess("a client-side apply of the StatefulSet scales it", scaleGoes([]int32{3, 2},
			clientSide(strings.ReplaceAll(threeReplicas, "3", "2")), scaleIs(2), ownerIs("kubectl-client-side-apply"), passesAreForced(1))).
		Feature())
}

// TestEdit: a number that a user enters in kubectl edit is a declaration in the MCPServer, and a manual scaling in the StatefulSet.
func TestEdit(t *testing.T) {
	testEnv.Test(t, feature("kubectl edit").
		Assess("declared", all(apply(declared(2)), scaleIs(2))).
		Assess("of the MCPServer declares", scaleGoes([]int32{2, 3},
			edit("mcpserver/web", "sed -i 's/^  replicas: 2$/  replicas: 3/'"), scaleIs(3), ownerIs("MCPServer"),
			declarationIsOwnedBy("kubectl-edit/Update"))).
		Assess("of the StatefulSet scales", scaleGoes([]int32{3, 4},
			edit("statefulset/web", "sed -i 's/^  replicas: 3$/  replicas: 4/'"), scaleIs(4), ownerIs("kubectl-edit"),
			scaleIsOwnedBy("kubectl-edit/Update"), passesAreForced(1),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded", `"kubectl-edit"`, "to 4"))).
		Assess("removing it from the MCPServer is a release", holds(4,
			edit("mcpserver/web", "sed -i '/^  replicas: 3$/d'"), passesAreForced(1),
			conditionIsGone(v1beta1.ConditionScaleConflict), ownerIs("kubectl-edit"), scaleIs(4))).
		Feature())
}

// edit runs kubectl edit with a command as the editor.
func edit(object, editor string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		t.Setenv("KUBE_EDITOR", editor)
		kubectl("edit", object)(ctx, t, nil)
	})
}

// TestAManifestAfterAnEditOrAPatch verifies that an apply of the original manifest meets a conflict that names the manager of the
// change.
func TestAManifestAfterAnEditOrAPatch(t *testing.T) {
	const using = " using toolhive.stacklok.dev/v1beta1: .spec.replicas"
	test := feature("a manifest with 2 replicas").Assess("declared", all(applyAs("kubectl", declared(2)), scaleIs(2)))
	for _, change := range []struct {
		manager string
		by      features.Func
	}{
		{"kubectl-edit", edit("mcpserver/web", "sed -i 's/^  replicas: 2$/  replicas: 3/'")},
		{"kubectl-patch", kubectl("patch", "mcpserver", server, "--type=merge", "-p", `{"spec":{"replicas":3}}`)},
	} {
		test = test.
			Assess("after "+change.manager, scaleGoes([]int32{2, 3}, change.by, scaleIs(3), declarationIsOwnedBy(change.manager+"/Update"))).
			Assess("the manifest meets a conflict with the manager", holds(3,
				refused(fmt.Sprintf("conflict with %q", change.manager), declared(2), "apply", "--server-side", "-f", "-"),
				fails(fmt.Sprintf("Apply failed with 1 conflict: conflict with %q", change.manager)+using, declared(2), "apply", "--server-side", "-f", "-"),
				passesAreForced(1))).
			Assess("the manifest forces the conflict and declares", scaleGoes([]int32{3, 2},
				applyForcedAs("kubectl", declared(2)), scaleIs(2), declarationIsOwnedBy("kubectl/Apply")))
	}
	testEnv.Test(t, test.Feature())
}

// TestAManifestBesideAnAutoscalerOfTheMCPServer: the autoscaler declares replicas, and the manifest meets a conflict until it leaves
// replicas out. The cluster has no metrics, so the autoscaler only enforces its bounds.
func TestAManifestBesideAnAutoscalerOfTheMCPServer(t *testing.T) {
	with := func(replicas string) string {
		return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", transport: streamable-http, resources: {requests: {cpu: 100m}}%s}
`, replicas)
	}
	const autoscaler = "kube-controller-manager/Update/scale"
	asUser := func(manifest string, more ...string) features.Func {
		return kubectlOf(manifest, append([]string{"apply", "--server-side", "-f", "-"}, more...)...)
	}
	testEnv.Test(t, feature("kubectl autoscale mcpserver").
		Assess("declared 2", all(asUser(with(", replicas: 2")), scaleIs(2), declarationIsOwnedBy("kubectl/Apply"))).
		Assess("declares", scaleGoes([]int32{2, 3},
			kubectl("autoscale", "mcpserver/web", "--min=3", "--max=6", "--cpu=80%"), scaleIs(3), declarationIsOwnedBy(autoscaler),
			ownerIs("MCPServer"), conditionIsGone(v1beta1.ConditionAutoscalerProblem), conditionIsGone(v1beta1.ConditionScaleConflict))).
		Assess("the manifest with 2 meets a conflict", holds(3,
			refused(`conflict with "kube-controller-manager" with subresource "scale"`, with(", replicas: 2"), "apply", "--server-side", "-f", "-"),
			fails(`Apply failed with 1 conflict: conflict with "kube-controller-manager" with subresource "scale" using `+
				`toolhive.stacklok.dev/v1beta1: .spec.replicas`, with(", replicas: 2"), "apply", "--server-side", "-f", "-"),
			passesAreForced(1))).
		Assess("without replicas it meets none, and leaves the number alone", holds(3,
			asUser(with("")), passesAreForced(1), declarationIsOwnedBy(autoscaler), scaleIs(3))).
		Assess("a forced apply declares its number again", scaleGoes([]int32{3, 5},
			asUser(with(", replicas: 5"), "--force-conflicts"), scaleIs(5), declarationIsOwnedBy("kubectl/Apply"))).
		Assess("the autoscaler continues from that number", scaleGoes([]int32{5, 4},
			kubectl("patch", "hpa", server, "--type=merge", "-p", `{"spec":{"maxReplicas":4}}`), scaleIs(4), declarationIsOwnedBy(autoscaler))).
		Feature())
	testEnv.Test(t, feature("kubectl autoscale mcpserver, which declares no replicas").
		Assess("cannot read the scale, and the condition says what to do", all(asUser(with("")), scaleIs(1), holds(1,
			kubectl("autoscale", "mcpserver/web", "--min=3", "--max=6", "--cpu=80%"),
			conditionSays(v1beta1.ConditionAutoscalerProblem, "AutoscalerOnUndeclared", "HorizontalPodAutoscaler/web", "set spec.replicas")))).
		Assess("works after kubectl scale, and Kubernetes records no owner of the field", all(
			kubectl("scale", "mcpserver/web", "--replicas=2"), scaleIs(3), declarationIsOwnedBy(),
			conditionIsGone(v1beta1.ConditionAutoscalerProblem))).
		Assess("a manifest with replicas meets no conflict and declares", scaleGoes([]int32{3, 5},
			asUser(with(", replicas: 5")), scaleIs(5), declarationIsOwnedBy("kubectl/Apply"))).
		Feature())
}

// TestPatchOfTheMCPServer verifies that each patch type that a custom resource supports declares replicas, and that others fail with
// the reason.
func TestPatchOfTheMCPServer(t *testing.T) {
	testEnv.Test(t, feature("kubectl patch mcpserver").
		Assess("without replicas, the scale subresource cannot be patched", all(apply(undeclared), scaleIs(1),
			refused(`the spec replicas field ".spec.replicas" does not exist`, "",
				"patch", "mcpserver", server, "--subresource=scale", "--type=merge", "-p", `{"spec":{"replicas":2}}`))).
		Assess("merge", scaleGoes([]int32{1, 2},
			kubectl("patch", "mcpserver", server, "--type=merge", "-p", `{"spec":{"replicas":2}}`), scaleIs(2),
			declarationIsOwnedBy("kubectl-patch/Update"))).
		Assess("json", scaleGoes([]int32{2, 3},
			kubectl("patch", "mcpserver", server, "--type=json", "-p", `[{"op":"replace","path":"/spec/replicas","value":3}]`), scaleIs(3))).
		Assess("the scale subresource", scaleGoes([]int32{3, 2},
			kubectl("patch", "mcpserver", server, "--subresource=scale", "--type=merge", "-p", `{"spec":{"replicas":2}}`), scaleIs(2),
			declarationIsOwnedBy("kubectl-patch/Update/scale"), ownerIs("MCPServer"))).
		Assess("strategic, the default of kubectl, is refused", holds(2,
			refused("application/strategic-merge-patch+json is not supported", "", "patch", "mcpserver", server, "-p", `{"spec":{"replicas":3}}`),
			passesAreForced(1))).
		Assess("the operator restores its status", holds(2,
			kubectl("patch", "mcpserver", server, "--subresource=status", "--type=merge", "-p", `{"status":{"scale":{"owner":"me","replicas":7}}}`),
			ownerIs("MCPServer"), eventuallyPrints("2", "mcpserver/web", ".status.scale.replicas"),
			kubectl("delete", "statefulset", server), childrenAreThere(), scaleIs(2))).
		Assess("a merge patch with null is a release", holds(2,
			kubectl("patch", "mcpserver", server, "--type=merge", "-p", `{"spec":{"replicas":null}}`),
			eventSays("ScaleReleased", "stays at 2"), passesAreForced(1), scaleIsOwnedBy())).
		Feature())
}

// TestPatchOfTheStatefulSet verifies that each patch type scales the StatefulSet, and that the operator keeps the scale.
func TestPatchOfTheStatefulSet(t *testing.T) {
	test := feature("kubectl patch statefulset").Assess("delegated", all(apply(undeclared), scaleIs(1)))
	before := int32(1)
	for _, patch := range []struct {
		replicas   int32
		args       []string
		body, owns string
	}{
		{2, []string{"--type=merge"}, `{"spec":{"replicas":2}}`, "kubectl-patch/Update"},
		{3, []string{"--type=json"}, `[{"op":"replace","path":"/spec/replicas","value":3}]`, "kubectl-patch/Update"},
		{4, []string{"--type=strategic"}, `{"spec":{"replicas":4}}`, "kubectl-patch/Update"},
		{3, []string{"--subresource=scale", "--type=merge"}, `{"spec":{"replicas":3}}`, "kubectl-patch/Update/scale"},
	} {
		test = test.Assess(strings.Join(patch.args, " "), scaleGoes([]int32{before, patch.replicas},
			kubectl(append([]string{"patch", "statefulset", server, "-p", patch.body}, patch.args...)...), scaleIs(patch.replicas),
			passesAreForced(1), ownerIs("kubectl-patch"), scaleIsOwnedBy(patch.owns)))
		before = patch.replicas
	}
	testEnv.Test(t, test.
		Assess("Kubernetes restores its status", holds(before,
			kubectl("patch", "statefulset", server, "--subresource=status", "--type=merge", "-p", `{"status":{"readyReplicas":1,"availableReplicas":1}}`),
			scaleIs(before))).
		Feature())
}

// TestScaleFromAKnownNumber: kubectl scale --current-replicas only succeeds if the current number is as expected.
func TestScaleFromAKnownNumber(t *testing.T) {
	scale := func(object string, current, replicas int32) []string {
		return []string{"scale", object, fmt.Sprintf("--current-replicas=%d", current), fmt.Sprintf("--replicas=%d", replicas)}
	}
	testEnv.Test(t, feature("kubectl scale --current-replicas").
		Assess("of the StatefulSet", all(apply(undeclared), scaleIs(1),
			scaleGoes([]int32{1, 3}, kubectl(scale("statefulset/web", 1, 3)...), scaleIs(3)))).
		Assess("of a StatefulSet with a different number", holds(3,
			refused("Expected replicas to be 1, was 3", "", scale("statefulset/web", 1, 5)...), passesAreForced(1))).
		Assess("of an MCPServer without replicas", holds(3,
			refused(`the spec replicas field ".spec.replicas" does not exist`, "", scale("mcpserver/web", 3, 2)...), passesAreForced(1))).
		Assess("of an MCPServer", all(applyAs("kubectl", declared(2)), scaleIs(2),
			scaleGoes([]int32{2, 4}, kubectl(scale("mcpserver/web", 2, 4)...), scaleIs(4), declarationIsOwnedBy("kubectl/Update/scale")))).
		Assess("of an MCPServer with a different number", holds(4,
			fails("Expected replicas to be 2, was 4", "", scale("mcpserver/web", 2, 1)...), passesAreForced(1))).
		Assess("the manifest meets a conflict afterwards", holds(4,
			refused(`conflict with "kubectl" with subresource "scale"`, declared(2), "apply", "--server-side", "-f", "-"), passesAreForced(1))).
		Feature())
}

// TestAutoscaleWithoutMetrics: an autoscaler enforces its minimum and maximum before it reads metrics. The cluster has no metrics.
func TestAutoscaleWithoutMetrics(t *testing.T) {
	const streaming = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", transport: streamable-http, resources: {requests: {cpu: 100m}}}
`
	testEnv.Test(t, feature("kubectl autoscale").
		Assess("with one number", all(apply(streaming), scaleIs(1), scaleGoes([]int32{1, 2},
			kubectl("autoscale", "statefulset", server, "--min=2", "--max=2"), scaleIs(2), passesAreForced(1)))).
		Assess("with a minimum", all(kubectl("delete", "hpa", server), scaleGoes([]int32{2, 3},
			kubectl("autoscale", "statefulset", server, "--min=3", "--max=6", "--cpu=80%"), scaleIs(3), passesAreForced(1)))).
		Assess("the autoscaler reports that it has no metrics", eventuallyPrints("False", "hpa/web", `.status.conditions[?(@.type=="ScalingActive")].status`)).
		Assess("the MCPServer reports no problem", conditionIsGone(v1beta1.ConditionAutoscalerProblem)).
		Assess("the autoscaler is the owner, although Kubernetes records none", all(ownerIs("HorizontalPodAutoscaler/web"), scaleIsOwnedBy(),
			eventSays("ScaleTransferred", "2 to 3"))).
		Feature())
}
