package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestRollout verifies that kubectl rollout works on the StatefulSet. Only rollout undo of a field that the MCPServer declares is
// reverted. The scale is not part of a revision.
func TestRollout(t *testing.T) {
	const (
		annotations = ".spec.template.metadata.annotations"
		image       = ".spec.template.spec.containers[0].image"
	)
	complete := printed([]string{"roll out complete: 2 new pods"}, "rollout", "status", "statefulset/web", "--timeout=90s")
	testEnv.Test(t, feature("kubectl rollout").
		Assess("two pods", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))).
		Assess("restart replaces them", holds(2,
			podsAreReplaced(kubectl("rollout", "restart", "statefulset/web"), complete), passesAreForced(1), scaleIs(2),
			eventuallyHas([]string{"kubectl.kubernetes.io/restartedAt"}, "statefulset/web", annotations))).
		Assess("a new image creates a revision", holds(2, imageChanges("registry.example/server:2"), complete,
			printed([]string{"REVISION", "\n1 ", "\n2 ", "\n3 "}, "rollout", "history", "statefulset/web"))).
		Assess("the operator reverts an undo of the image and emits an event", holds(2,
			kubectl("rollout", "undo", "statefulset/web"),
			eventSays("FieldTakenBack", `"kubectl" had changed`, "image", `StatefulSet "web"`, "declare it in the MCPServer"),
			eventuallyPrints("registry.example/server:2", "statefulset/web", image), imageIs("registry.example/server:2"), complete)).
		Assess("a change of the MCPServer restores the old image", holds(2, imageChanges("registry.example/server:1"), complete)).
		Assess("an undo of another manager's field is kept", holds(2,
			eventuallyHas([]string{"kubectl.kubernetes.io/restartedAt"}, "statefulset/web", annotations),
			kubectl("rollout", "undo", "statefulset/web", "--to-revision=1"), passesAreForced(2), complete,
			eventuallyPrints("", "statefulset/web", annotations), eventuallyPrints("registry.example/server:1", "statefulset/web", image))).
		Assess("the MCPServer does not support rollout", all(
			refused(`no kind "MCPServer" is registered`, "", "rollout", "restart", "mcpserver/web"),
			refused(`no kind "MCPServer" is registered`, "", "rollout", "undo", "mcpserver/web"))).
		Feature())
}

// TestSet verifies that kubectl set and kubectl label can change the fields that the MCPServer does not declare, and no others. See
// coowners_test.go for images and environment variables.
func TestSet(t *testing.T) {
	const requests = ".spec.template.spec.containers[0].resources.requests"
	testEnv.Test(t, feature("kubectl set").
		Assess("scaled", all(apply(strings.Replace(undeclared, "server:1\"", "server:1\", resources: {requests: {cpu: 100m}}", 1)), scaleIs(1),
			kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))).
		Assess("resources that the MCPServer does not declare are kept", holds(2,
			kubectl("set", "resources", "statefulset", server, "--requests=memory=64Mi"), passesAreForced(2),
			eventuallyPrints("64Mi", "statefulset/web", requests+".memory"))).
		Assess("resources that the MCPServer declares are restored", holds(2,
			kubectl("set", "resources", "statefulset", server, "--requests=cpu=1"),
			eventSays("FieldTakenBack", `"kubectl-set" had changed`, "resources.requests.cpu", `StatefulSet "web"`),
			eventuallyPrints("100m", "statefulset/web", requests+".cpu"), eventuallyPrints("64Mi", "statefulset/web", requests+".memory"))).
		Assess("the ServiceAccount is restored", holds(2,
			kubectl("set", "serviceaccount", "statefulset", server, "default"),
			eventSays("FieldTakenBack", `"kubectl-set" had changed`, "serviceAccountName"),
			eventuallyPrints("mcp-web", "statefulset/web", ".spec.template.spec.serviceAccountName"), scaleIs(2))).
		Assess("a label of the operator is restored after kubectl label", holds(2,
			kubectl("label", "statefulset", server, "--overwrite", "app.kubernetes.io/name=other"),
			eventSays("FieldTakenBack", `"kubectl-label" had changed`, "app.kubernetes.io/name"),
			eventuallyPrints("mcpserver", "statefulset/web", `.metadata.labels.app\.kubernetes\.io/name`))).
		Assess("the MCPServer does not support kubectl set", refused(`no kind "MCPServer" is registered`, "", "set", "image", "mcpserver/web", "mcp=a")).
		Feature())
}

// TestADeclaredStatefulSetComesBackAsDeclared covers each way of deletion. See restore_test.go for undeclared replicas.
func TestADeclaredStatefulSetComesBackAsDeclared(t *testing.T) {
	test := feature("declared 3, deleted").Assess("declared", all(apply(declared(3)), scaleIs(3)))
	for _, cascade := range []string{"background", "foreground", "orphan"} {
		test = test.Assess("with --cascade="+cascade, holds(3,
			kubectl("delete", "statefulset", server, "--cascade="+cascade), childrenAreThere(), scaleIs(3), ownerIs("MCPServer"),
			scaleIsOwnedBy("mcpserver-operator/Apply")))
	}
	testEnv.Test(t, test.Feature())
}

// TestAnMCPServerDeletedWithoutItsChildren verifies that --cascade=orphan keeps the pods. A new MCPServer with the same name does not
// adopt the StatefulSet and reports this. If the StatefulSet is deleted with --cascade=orphan, it is recreated and adopts the pods.
// See children_test.go for normal deletion.
func TestAnMCPServerDeletedWithoutItsChildren(t *testing.T) {
	var before []types.UID
	samePods := podsAreStill(&before)
	testEnv.Test(t, feature("kubectl delete mcpserver --cascade=orphan").
		Assess("declared", all(apply(declared(3)), scaleIs(3),
			podsAreRemembered(&before))).
		Assess("the children and the pods remain", holds(3,
			kubectl("delete", "mcpserver", server, "--cascade=orphan"),
			eventuallyPrints("", "statefulset/web", ".metadata.ownerReferences"), childrenAreThere(), podsAreReady(3), samePods)).
		Assess("a new MCPServer does not adopt them", holds(3, apply(declared(3)),
			conditionSays(v1beta1.ConditionStalled, "NotControlled", `StatefulSet "web"`, "nothing controls it"), passesAreForced(2))).
		Assess("after an orphaning deletion, they are recreated", holds(3,
			kubectl("delete", "--cascade=orphan", "statefulset/web", "service/mcp-web-proxy", "service/mcp-web-headless",
				"serviceaccount/mcp-web", "poddisruptionbudget/mcp-web"),
			childrenAreThere(), scaleIs(3), ownerIs("MCPServer"), samePods)).
		Feature())
}

// podsAreReplaced runs steps and fails unless they replace every pod.
func podsAreReplaced(steps ...features.Func) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		before := podUIDs(ctx, t)
		all(steps...)(ctx, t, nil)
		after := podUIDs(ctx, t)
		if slices.ContainsFunc(after, func(uid types.UID) bool { return slices.Contains(before, uid) }) {
			t.Errorf("the pods were %v and are %v", before, after)
		}
	})
}
