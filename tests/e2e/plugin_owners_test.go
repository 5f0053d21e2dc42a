package e2e

import (
	"context"
	"fmt"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestThePluginExplains verifies that all owners of a field are shown, and the tools to ask.
func TestThePluginExplains(t *testing.T) {
	testEnv.Test(t, feature("explain and owners").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3),
			step(func(ctx context.Context, t *testing.T) {
				applyForcedAs("argocd-controller", fmt.Sprintf(`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, annotations: {argocd.argoproj.io/tracking-id: "shop:apps/StatefulSet:%s/web"}}, spec: {replicas: 3}}`, in(ctx)))(ctx, t, nil)
			}),
			apply(autoscaler("web", onMCPServer, 3)))).
		Assess("why the scale is what it is, and whom to ask", plugin(exitOK, []string{
			"The scale is 3 and belongs to \"argocd-controller\"", "declares no number", "HorizontalPodAutoscaler/web of the MCPServer", `Ask: Argo CD Application "shop"`,
			`.spec.template.spec.containers[name="mcp"].image`, "mcpserver-operator (Apply)", `Service "mcp-web-proxy"`,
		}, "explain", server)).
		Assess("as YAML", plugin(exitOK, []string{"child: StatefulSet"}, "explain", server, "-o=yaml")).
		Assess("an unknown format", plugin(exitError, []string{`invalid value "xml" of --output`}, "explain", server, "-o=xml")).
		Assess("the owners of a field of any object", plugin(exitOK, []string{".spec.replicas", "argocd-controller (Apply)"}, "owners", "statefulset/web", ".spec.replicas")).
		Assess("a field moves between managers of any object", all(
			plugin(exitOK, []string{"now belongs to helm"}, "handover", "statefulset/web", ".spec.replicas", "--from=argocd-controller", "--to=helm"),
			scaleIsOwnedBy("helm/Apply"), scaleIs(3))).
		Assess("a manager that does not own it", plugin(exitError, []string{`no such field manager`, `"helm"`}, "handover", "statefulset/web", ".spec.replicas", "--from=flux", "--to=nobody")).
		Feature())
}

// reader is a user who may only read, and not even NetworkPolicies.
const reader = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [toolhive.stacklok.dev], resources: [mcpservers], verbs: [get, list]}
- {apiGroups: [apps], resources: [statefulsets], verbs: [get, list]}
- {apiGroups: [""], resources: [services, serviceaccounts, pods], verbs: [get, list]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, list]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [%s]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [%s]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]
`

// TestExplainOnlyReads: a suspended MCPServer with another image has changes that the operator would make. To explain the owners requires no permission to make
// them.
func TestExplainOnlyReads(t *testing.T) {
	may := func(policies, autoscalers string) features.Func {
		return apply(fmt.Sprintf(reader, policies, autoscalers))
	}
	explains := func(words ...string) features.Func {
		return plugin(exitOK, append(words, `StatefulSet "web"`, `.spec.template.spec.containers[name="mcp"].image`), "explain", server, "--as=reader")
	}
	testEnv.Test(t, feature("a user who may only read").
		Setup(all(apply(undeclared), scaleIs(1), apply(suspendedWith("registry.example/server:2")), kubectl("scale", "statefulset", server, "--replicas=2"))).
		Assess("gets everything", all(may("get", "list"), explains("The scale is 2"), pluginLacks("", []string{"You may not read"}, "explain", server, "--as=reader"))).
		Assess("without the autoscalers, is told so in one line", all(may("get", "get"), explains("You may not read the autoscalers.", "The scale is 2"))).
		Assess("without a kind of children, is told so in one line", all(may("create", "list"),
			explains(`You may not read NetworkPolicy "mcp-web", all that decides about the scale.`))).
		Feature())
}

// TestAFieldInAKeyedListMoves verifies that a path with a key moves one entry of a list, with its fields, and leaves the other entries.
func TestAFieldInAKeyedListMoves(t *testing.T) {
	const (
		moved = `.spec.template.spec.containers[name="app"].env[name="A"]`
		stays = `.spec.template.spec.containers[name="app"].env[name="B"]`
	)
	pods := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop}, spec: {replicas: 0, selector: {matchLabels: {app: shop}}, template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: app, image: a, env: [%s]}]}}}}`
	both, onlyB := fmt.Sprintf(pods, `{name: A, value: "1"}, {name: B, value: "2"}`), fmt.Sprintf(pods, `{name: B, value: "2"}`)
	env := func(want string) features.Func {
		return eventuallyPrints(want, "deployment/shop", ".spec.template.spec.containers[0].env[*].name")
	}
	testEnv.Test(t, feature("env of a Deployment").
		Setup(applyForcedAs("helm", both)).
		Assess("one variable moves to another manager", all(
			plugin(exitOK, []string{"now belongs to argocd-controller"}, "handover", "deployment/shop", moved, "--from=helm", "--to=argocd-controller"),
			plugin(exitOK, []string{"argocd-controller (Apply)"}, "owners", "deployment/shop", moved), pluginLacks("", []string{"helm"}, "owners", "deployment/shop", moved),
			plugin(exitOK, []string{"helm (Apply)"}, "owners", "deployment/shop", stays), pluginLacks("", []string{"argocd"}, "owners", "deployment/shop", stays))).
		Assess("the former owner no longer removes it", all(applyForcedAs("helm", onlyB), env("A B"))).
		Assess("the new owner does", all(applyForcedAs("argocd-controller", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop, labels: {a: b}}}`), env("B"))).
		Assess("a field given to nobody keeps its value", all(
			plugin(exitOK, []string{"now belongs to nobody", "has not changed"}, "handover", "deployment/shop", ".spec.replicas", "--from=helm", "--to=nobody"),
			plugin(exitOK, []string{"No manager owns .spec.replicas"}, "owners", "deployment/shop", ".spec.replicas"),
			applyForcedAs("helm", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop, labels: {c: d}}, spec: {selector: {matchLabels: {app: shop}}, template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: app, image: a}]}}}}`),
			eventuallyPrints("0", "deployment/shop", ".spec.replicas"))).
		Feature())
}
