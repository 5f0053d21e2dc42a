package e2e

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// suspendedWith returns an MCPServer with an image and spec.suspend set.
func suspendedWith(image string) string {
	return strings.Replace(strings.Replace(undeclared, "registry.example/server:1", image, 1), "spec: {", "spec: {suspend: true, ", 1)
}

// TestASuspendedMCPServerIsLeftAlone verifies that the operator does not modify the children of a suspended MCPServer. After a resume,
// only changes of the spec take effect.
func TestASuspendedMCPServerIsLeftAlone(t *testing.T) {
	const next = "registry.example/server:2"
	testEnv.Test(t, feature("suspended").
		Setup(all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=3"), scaleIs(3))).
		Assess("only the status is written", writesNoChild(all(
			apply(suspendedWith(next)), conditionSays(v1beta1.ConditionSuspended, "Suspended", "spec.suspend"),
			kubectl("label", "statefulset", "web", "app.kubernetes.io/managed-by=me", "--overwrite"),
			kubectl("delete", "service", "mcp-web-proxy"),
			kubectl("scale", "statefulset", "web", "--replicas=2"), podsAreReady(2),
			eventuallyPrints("registry.example/server:1", "statefulset/web", ".spec.template.spec.containers[0].image"),
			eventuallyPrints("2", "mcpserver/web", ".status.scale.replicas")))).
		Assess("after a resume, the children match the spec and the scale stays", holds(2,
			apply(strings.Replace(suspendedWith(next), "suspend: true", "suspend: false", 1)),
			conditionIsGone(v1beta1.ConditionSuspended), imageIs(next), scaleIs(2),
			eventuallyPrints("mcpserver-operator", "statefulset/web", `.metadata.labels.app\.kubernetes\.io/managed-by`),
			eventuallyPrints("mcp-web-proxy", "service/mcp-web-proxy", ".metadata.name"))).
		Feature())
	testEnv.Test(t, feature("suspended from the start").
		Setup(all(apply(suspendedWith(next)), conditionSays(v1beta1.ConditionSuspended, "Suspended"))).
		Assess("nothing is created", all(passesAreForced(2), step(func(ctx context.Context, t *testing.T) {
			var sets appsv1.StatefulSetList
			must(t, theCluster.Client.List(ctx, &sets, client.InNamespace(in(ctx))))
			if len(sets.Items) > 0 {
				t.Errorf("the StatefulSet exists")
			}
		}))).
		Feature())
}

// writesNoChild fails if the operator writes anything except events and the status of the MCPServer during the step.
func writesNoChild(during features.Func) features.Func {
	return writesNo(func(r cluster.Request) bool { return r.Resource != "mcpservers" && r.Resource != "events" }, during)
}
