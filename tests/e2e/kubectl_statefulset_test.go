package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1alpha1"
)

// TestRollout: kubectl rollout works on the StatefulSet, except that its undo cannot undo what the MCPServer asks for. The
// scale is no part of a revision.
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
		Assess("a new image is one more revision", holds(2, imageChanges("registry.example/server:2"), complete,
			printed([]string{"REVISION", "\n1 ", "\n2 ", "\n3 "}, "rollout", "history", "statefulset/web"))).
		Assess("undo of the image is put back, and said", holds(2,
			kubectl("rollout", "undo", "statefulset/web"),
			eventSays("FieldTakenBack", `"kubectl" had changed`, "image", `StatefulSet "web"`, "declare it in the MCPServer"),
			eventuallyPrints("registry.example/server:2", "statefulset/web", image), imageIs("registry.example/server:2"), complete)).
		Assess("what undoes it is the MCPServer", holds(2, imageChanges("registry.example/server:1"), complete)).
		Assess("undo of what others had written is left alone", holds(2,
			eventuallyHas([]string{"kubectl.kubernetes.io/restartedAt"}, "statefulset/web", annotations),
			kubectl("rollout", "undo", "statefulset/web", "--to-revision=1"), passesAreForced(2), complete,
			eventuallyPrints("", "statefulset/web", annotations), eventuallyPrints("registry.example/server:1", "statefulset/web", image))).
		Assess("the MCPServer itself has no rollout", all(
			refused(`no kind "MCPServer" is registered`, "", "rollout", "restart", "mcpserver/web"),
			refused(`no kind "MCPServer" is registered`, "", "rollout", "undo", "mcpserver/web"))).
		Feature())
}

// TestSet: kubectl set, and kubectl label, change what the MCPServer leaves open, and not what it asks for. An image and an environment
// variable are in coowners_test.go.
func TestSet(t *testing.T) {
	const requests = ".spec.template.spec.containers[0].resources.requests"
	testEnv.Test(t, feature("kubectl set").
		Assess("scaled", all(apply(strings.Replace(undeclared, "server:1\"", "server:1\", resources: {requests: {cpu: 100m}}", 1)), scaleIs(1),
			kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))).
		Assess("resources that the MCPServer does not ask for stay", holds(2,
			kubectl("set", "resources", "statefulset", server, "--requests=memory=64Mi"), passesAreForced(2),
			eventuallyPrints("64Mi", "statefulset/web", requests+".memory"))).
		Assess("those that it asks for are put back", holds(2,
			kubectl("set", "resources", "statefulset", server, "--requests=cpu=1"),
			eventSays("FieldTakenBack", `"kubectl-set" had changed`, "resources.requests.cpu", `StatefulSet "web"`),
			eventuallyPrints("100m", "statefulset/web", requests+".cpu"), eventuallyPrints("64Mi", "statefulset/web", requests+".memory"))).
		Assess("and so is the ServiceAccount", holds(2,
			kubectl("set", "serviceaccount", "statefulset", server, "default"),
			eventSays("FieldTakenBack", `"kubectl-set" had changed`, "serviceAccountName"),
			eventuallyPrints("mcp-web", "statefulset/web", ".spec.template.spec.serviceAccountName"), scaleIs(2))).
		Assess("kubectl label does not keep a label of the operator's", holds(2,
			kubectl("label", "statefulset", server, "--overwrite", "app.kubernetes.io/name=other"),
			eventSays("FieldTakenBack", `"kubectl-label" had changed`, "app.kubernetes.io/name"),
			eventuallyPrints("mcpserver", "statefulset/web", `.metadata.labels.app\.kubernetes\.io/name`))).
		Assess("the MCPServer itself has no such fields", refused(`no kind "MCPServer" is registered`, "", "set", "image", "mcpserver/web", "mcp=a")).
		Feature())
}

// TestADeclaredStatefulSetComesBackAsDeclared: however it was deleted. One that is not declared is in restore_test.go.
func TestADeclaredStatefulSetComesBackAsDeclared(t *testing.T) {
	test := feature("declared 3, deleted").Assess("declared", all(apply(declared(3)), scaleIs(3)))
	for _, cascade := range []string{"background", "foreground", "orphan"} {
		test = test.Assess("with --cascade="+cascade, holds(3,
			kubectl("delete", "statefulset", server, "--cascade="+cascade), childrenAreThere(), scaleIs(3), ownerIs("MCPServer"),
			scaleIsOwnedBy("mcpserver-operator/Apply")))
	}
	testEnv.Test(t, test.Feature())
}

// TestAnMCPServerDeletedWithoutItsChildren: --cascade=orphan keeps the pods. A new MCPServer of the name does not take them
// for its own, and says so; deleted the same way, its StatefulSet comes back around them. What goes with the MCPServer
// otherwise is in children_test.go.
func TestAnMCPServerDeletedWithoutItsChildren(t *testing.T) {
	var before []types.UID
	samePods := step(func(ctx context.Context, t *testing.T) {
		if after := podUIDs(ctx, t); !slices.Equal(before, after) {
			t.Fatalf("the pods were %v and are %v", before, after)
		}
	})
	testEnv.Test(t, feature("kubectl delete mcpserver --cascade=orphan").
		Assess("declared", all(apply(declared(3)), scaleIs(3),
			step(func(ctx context.Context, t *testing.T) { before = podUIDs(ctx, t) }))).
		Assess("keeps the children and the pods", holds(3,
			kubectl("delete", "mcpserver", server, "--cascade=orphan"),
			eventuallyPrints("", "statefulset/web", ".metadata.ownerReferences"), childrenAreThere(), podsAreReady(3), samePods)).
		Assess("which a new MCPServer leaves alone", holds(3, apply(declared(3)),
			conditionSays(v1alpha1.ConditionStalled, "NotControlled", `StatefulSet "web"`, "nothing controls it"), passesAreForced(2))).
		Assess("until they are deleted the same way", holds(3,
			kubectl("delete", "--cascade=orphan", "statefulset/web", "service/mcp-web-proxy", "service/mcp-web-headless",
				"serviceaccount/mcp-web", "poddisruptionbudget/mcp-web"),
			childrenAreThere(), scaleIs(3), ownerIs("MCPServer"), samePods)).
		Feature())
}

// podsAreReplaced runs steps and fails unless each pod is another one afterwards.
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
