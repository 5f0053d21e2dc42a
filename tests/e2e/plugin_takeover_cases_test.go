package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// finalizersAre waits until an MCPServer has exactly these finalizers, as JSON; empty for none.
func finalizersAre(name, want string) features.Func {
	return eventuallyPrints(want, "mcpserver/"+name, ".metadata.finalizers")
}

const theirFinalizer = `["mcpserver.toolhive.stacklok.dev/finalizer"]`

// TestATakeoverThatDiffersInNothingRestartsNoPod: the pod template that ToolHive has left is the one that this operator makes.
func TestATakeoverThatDiffersInNothingRestartsNoPod(t *testing.T) {
	var pods []types.UID
	testEnv.Test(t, feature("the same pod template").
		Setup(all(operatorStops(), apply(strings.Replace(undeclared, "{name: web}", "{name: web, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}", 1)),
			step(func(ctx context.Context, t *testing.T) {
				makeAsPredecessor(ctx, t)
				all(kubectl("patch", "statefulset", server, "--type=merge", "-p", `{"metadata":{"ownerReferences":null}}`, "--field-manager="+predecessor),
					kubectl("scale", "statefulset", server, "--replicas=3"), podsAreReady(3))(ctx, t, nil)
				pods = podUIDs(ctx, t)
			}))).
		Assess("the dry run says so", all(plugin(exitFound, []string{"No pod restarts", `make the MCPServer the controller of StatefulSet "web"`}, "takeover", server, "--dry-run"),
			pluginLacks("", []string{"because of"}, "takeover", server, "--dry-run"))).
		Assess("no pod restarts, and the scale stays", holds(3, plugin(exitOK, nil, "takeover", server), operatorStarts(), scaleIs(3), passesAreForced(3),
			podsAreStill(&pods))).
		Assess("a second run has nothing to do", plugin(exitOK, []string{"nothing to take over"}, "takeover", server)).
		Feature())
}

// TestATakeoverNamesWhatTheMCPServerDoesNotGet: objects of somebody else can have the names of the children.
func TestATakeoverNamesWhatTheMCPServerDoesNotGet(t *testing.T) {
	const objects = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, labels: {toolhive: "true", toolhive-name: other}}
spec: {replicas: 0, serviceName: web, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: mcp, image: a}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: mcp-web-proxy}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: mcp-web-headless, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: shop, uid: %s, controller: true}]}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
`
	testEnv.Test(t, feature("objects of somebody else").
		Setup(all(operatorStops(), apply(strings.Replace(undeclared, "{name: web}", "{name: web, finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}", 1)),
			kubectl("create", "configmap", "shop"), step(func(ctx context.Context, t *testing.T) {
				applyForcedAs("helm", fmt.Sprintf(objects, get(ctx, t, "shop", &corev1.ConfigMap{}).UID))(ctx, t, nil)
			}))).
		Assess("each is named, with the reason and a command", all(
			plugin(exitFound, []string{
				`not taken over: StatefulSet "web", because its label toolhive-name is "other"`, `not taken over: Service "mcp-web-proxy", because nothing shows that ToolHive created it: its field managers are "helm"`,
				`not taken over: Service "mcp-web-headless", because ConfigMap "shop" controls it`, "kubectl mcpserver owners service/mcp-web-headless -n",
			}, "takeover", server, "--dry-run"),
			plugin(exitFound, []string{`"notAdopted": [`}, "takeover", server, "--dry-run", "-o", "json"),
			pluginLacks("", []string{"make the MCPServer the controller", "does not write"}, "takeover", server, "--dry-run"))).
		Assess("with the labels of ToolHive, as the command sets them, it is taken over", all(step(func(ctx context.Context, t *testing.T) {
			_, stdout, _ := runPlugin(ctx, t, "", "takeover", server, "--dry-run")
			commands := ""
			for line := range strings.Lines(stdout) {
				if _, command, found := strings.Cut(line, "If it belongs to this MCPServer, run: "); found {
					commands += command
				}
			}
			runsPrinted(ctx, t, commands)
		}), plugin(exitOK, []string{`the controller of StatefulSet "web"`, `the controller of Service "mcp-web-proxy"`, `not taken over: Service "mcp-web-headless"`}, "takeover", server))).
		Feature())
}

// TestATakeoverSaysWhatChangesItsMeaning: limits and replicas were those of the proxy, and nothing protects a server without it.
func TestATakeoverSaysWhatChangesItsMeaning(t *testing.T) {
	guarded := theirs{name: "guarded", generation: sinceAugust, replicas: 1, more: "tools: [read]"}
	limited := theirs{name: server, generation: sinceAugust, replicas: 1, more: "replicas: 2, resources: {limits: {memory: 64Mi}}"}
	testEnv.Test(t, feature("refused fields, limits and replicas").
		Setup(all(operatorStops(), otherCRD("v1beta1"), step(func(ctx context.Context, t *testing.T) {
			guarded.leave(ctx, t)
			limited.leave(ctx, t)
		}), ourCRDIsInstalled(), proxiesAreGone("guarded", server))).
		Assess("are said beforehand", plugin(exitFound, []string{
			"spec.resources (changed): the limits memory: 64Mi of ToolHive's proxy become those of the server", "spec.replicas (changed): the operator scales the server to 2, not the proxy",
			"Scale: 1 → 2", "spec.tools (refused)", "guarded: not taken over, because ToolHive's proxy protects it",
		}, "takeover", "--dry-run")).
		Assess("only what is named loses its protection", all(plugin(exitOK, nil, "takeover"), finalizersAre(server, ""), finalizersAre("guarded", theirFinalizer),
			plugin(exitOK, []string{"This operator does nothing for it until the refused fields are removed"}, "takeover", "guarded"), finalizersAre("guarded", ""))).
		Assess("the limits are not said again: they are now those of the server", pluginLacks("", []string{"spec.resources", "spec.replicas (changed)"}, "takeover")).
		Feature())
}

// mayTakeOverTheStatefulSet allows a user to take over a StatefulSet, but not the Services.
const mayTakeOverTheStatefulSet = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: half}
rules:
- {apiGroups: ["*"], resources: ["*"], verbs: [get, list]}
- {apiGroups: [apps, toolhive.stacklok.dev], resources: ["*"], verbs: [patch, delete, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: half}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: half}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: half}]
`

// TestATakeoverThatStopsBetweenTwoObjectsGoesOn: the first run ends after the StatefulSet. ToolHive's finalizer goes last, so that the MCPServer cannot
// disappear in between.
func TestATakeoverThatStopsBetweenTwoObjectsGoesOn(t *testing.T) {
	controls := func(object string, want string) features.Func {
		return eventuallyPrints(want, object, ".metadata.ownerReferences[*].kind")
	}
	var pods []types.UID
	testEnv.Test(t, feature("a user who may change the StatefulSet only").
		Setup(all(operatorStops(), step(func(ctx context.Context, t *testing.T) {
			theirs{name: server, generation: beforeAugust, replicas: 2}.leave(ctx, t)
		}),
			podsAreReady(2), apply(mayTakeOverTheStatefulSet), proxiesAreGone(server), podsAreRemembered(&pods))).
		Assess("the first run ends after it", all(
			plugin(exitError, []string{`patching Service "mcp-web-headless"`, "forbidden"}, "takeover", server, "--as=half"),
			controls("statefulset/web", "MCPServer"), controls("service/mcp-web-headless", "StatefulSet"), finalizersAre(server, theirFinalizer))).
		Assess("the second run does the rest", all(
			plugin(exitOK, []string{`Service "mcp-web-headless"`, "remove the finalizer"}, "takeover", server),
			controls("statefulset/web", "MCPServer"), controls("service/mcp-web-headless", "MCPServer"), finalizersAre(server, ""))).
		Assess("neither has restarted a pod", podsAreStill(&pods)).
		Assess("the operator carries on", all(operatorStarts(), scaleIs(2), conditionIsGone(v1beta1.ConditionStalled))).
		Feature())
}

// TestAProxyThatIsStartedAgainIsNamed: whenever a pod of the proxy starts, it applies the StatefulSet of before with force.
func TestAProxyThatIsStartedAgainIsNamed(t *testing.T) {
	old := theirs{name: server, generation: sinceAugust, replicas: 2}
	restored := eventuallyPrints("mcp-web", "statefulset/web", ".spec.template.spec.serviceAccountName")
	starts := all(step(old.proxyStarts), restored)
	testEnv.Test(t, feature("a proxy after the takeover").
		Setup(all(operatorStops(), step(func(ctx context.Context, t *testing.T) { old.leave(ctx, t) }), kubectl("scale", "deployment", server, "--replicas=0"),
			step(func(ctx context.Context, t *testing.T) {
				eventually(ctx, t, "the takeover", func(ctx context.Context) (string, bool) { // the proxy is still stopping
					code, stdout, stderr := runPlugin(ctx, t, "", "takeover", server)
					return stdout + stderr, code == exitOK
				})
			}), operatorStarts(), scaleIs(2), restored)).
		Assess("its first start is an event", all(starts, eventSays("FieldTakenBack", predecessor, "serviceAccountName"))).
		Assess("more are a fight, which names it", all(starts, starts, step(old.proxyStarts), conditionSays(v1beta1.ConditionFieldConflict, "FieldFight", predecessor, "serviceAccountName"))).
		Assess("the takeover has the command that stops it", all(kubectl("scale", "deployment", server, "--replicas=1"),
			plugin(exitFound, []string{"scale deployment web --replicas=0"}, "takeover", server, "--dry-run", "--remove-leftovers"))).
		Feature())
}
