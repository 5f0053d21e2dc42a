package e2e

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// The exit codes of the plugin.
const (
	exitOK    = 0
	exitFound = 1
	exitError = 2
)

// runPlugin runs kubectl mcpserver as the administrator in the namespace of the test, and returns its exit code and its output.
func runPlugin(ctx context.Context, t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr, err := theCluster.Plugin(ctx, "development", input, append(args, "--namespace="+in(ctx))...)
	must(t, err)
	return code, stdout, stderr
}

// plugin runs kubectl mcpserver, and fails unless it ends with a code and prints all words.
func plugin(code int, words []string, args ...string) features.Func {
	return pluginWith("", code, words, args...)
}

// pluginWith is plugin with a standard input.
func pluginWith(input string, code int, words []string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		got, stdout, stderr := runPlugin(ctx, t, input, args...)
		if got != code {
			t.Fatalf("kubectl mcpserver %s: the exit code is %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
		}
		for _, word := range words {
			if !strings.Contains(stdout+stderr, word) {
				t.Errorf("kubectl mcpserver %s does not print %q:\n%s%s", strings.Join(args, " "), word, stdout, stderr)
			}
		}
	})
}

// runsPrinted runs the commands that the plugin has printed, each on a line that begins with kubectl.
func runsPrinted(ctx context.Context, t *testing.T, output string) {
	t.Helper()
	ran := 0
	for line := range strings.Lines(output) {
		if command, is := strings.CutPrefix(strings.TrimSpace(line), "kubectl "); is {
			_, err := theCluster.Kubectl(ctx, strings.Fields(command)...)
			must(t, err)
			ran++
		}
	}
	if ran == 0 {
		t.Fatalf("no command in:\n%s", output)
	}
}

// TestThePluginMovesTheScale verifies that the owner of the scale moves, the number does not, and the sources that still have replicas are named.
func TestThePluginMovesTheScale(t *testing.T) {
	testEnv.Test(t, feature("handover to nobody").
		Setup(all(apply(declared(3)), scaleIs(3), ownerIs("MCPServer"))).
		Assess("the number stays, and the source is named", holds(3,
			plugin(exitOK, []string{"the scale is 3", "an unknown writer", `field manager "kubectl" (Apply) has replicas`}, "handover", server, "--to=nobody"),
			operatorDoesNotOwnTheScale(), ownerIs("Unclaimed"), passesAreForced(2))).
		Assess("the source declares it again", all(apply(declared(3)), scaleIs(3), operatorOwnsTheScale())).
		Feature())

	testEnv.Test(t, feature("handover to a field manager").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("which then owns it alone", holds(3,
			plugin(exitOK, []string{"the scale is 3", `"argocd-controller"`}, "handover", server, "--to=argocd-controller"),
			scaleIsOwnedBy("argocd-controller/Apply"), ownerIs("argocd-controller"))).
		Assess("and applies it without a conflict", all(applyAs("argocd-controller", strings.ReplaceAll(threeReplicas, "replicas: 3", "replicas: 2")), scaleIs(2))).
		Feature())

	testEnv.Test(t, feature("handover to an autoscaler").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("requires one", plugin(exitError, []string{"no HorizontalPodAutoscaler targets StatefulSet \"web\""}, "handover", server, "--to=hpa")).
		Assess("and changed nothing", all(operatorOwnsTheScale(), scaleIs(3))).
		Assess("the number stays until the autoscaler changes it", holds(3, apply(autoscaler("web", onStatefulSet, 3)),
			plugin(exitOK, []string{"the scale is 3", "HorizontalPodAutoscaler/web owns the scale when it next writes it"}, "handover", server, "--to=hpa"),
			operatorDoesNotOwnTheScale())).
		Assess("which owns the scale then", all(apply(autoscaler("web", onStatefulSet, 4)), scaleIs(4), ownerIs("HorizontalPodAutoscaler/web"))).
		Feature())

	testEnv.Test(t, feature("hold and resume").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("Unclaimed"))).
		Assess("hold declares the present number", holds(3, plugin(exitOK, []string{"the scale is 3", "this MCPServer"}, "hold", server), operatorOwnsTheScale())).
		Assess("another writer is reverted", all(kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(3))).
		Assess("hold again changes the number", all(plugin(exitOK, []string{"the scale is 2"}, "hold", server, "--replicas=2"), scaleIs(2))).
		Assess("resume restores what was before the first hold", holds(2,
			plugin(exitOK, []string{"the scale is 2"}, "resume", server), operatorDoesNotOwnTheScale(),
			eventuallyPrints("", "mcpserver/web", ".spec.replicas"), eventuallyPrints("", "mcpserver/web", ".metadata.annotations.toolhive\\.stacklok\\.dev/held"),
			kubectl("scale", "statefulset", server, "--replicas=2"))).
		Assess("resume of a yielded scale keeps the number", all(apply(declared(1)), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("kubectl"),
			holds(3, plugin(exitOK, []string{"this MCPServer"}, "hold", server), operatorOwnsTheScale(),
				plugin(exitOK, []string{"the scale is 3", "spec.replicas was 1"}, "resume", server), operatorDoesNotOwnTheScale(), passesAreForced(1)))).
		Assess("resume without hold", plugin(exitError, []string{"is not held"}, "resume", server)).
		Assess("an autoscaler would fight: the command refuses, with the command that pauses it", all(apply(autoscaler("web", onStatefulSet, 2)),
			step(func(ctx context.Context, t *testing.T) {
				code, _, stderr := runPlugin(ctx, t, "", "hold", server)
				if code != exitError || !containsAll(stderr, []string{"HorizontalPodAutoscaler/web", "would fight", `"selectPolicy":"Disabled"`}) {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				_, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "hpa", "web", "--type=merge", "-p",
					stderr[strings.Index(stderr, "{"):strings.LastIndex(stderr, "}")+1])
				must(t, err)
			}), plugin(exitOK, []string{"this MCPServer"}, "hold", server),
			plugin(exitOK, []string{"HorizontalPodAutoscaler/web is still paused"}, "resume", server))).
		Feature())
}

// TestThePluginPlans verifies that the plan has the effects of a change: the scale and who loses it, the fields that restart pods, and the conflicts.
func TestThePluginPlans(t *testing.T) {
	changed := strings.ReplaceAll(declared(2), "server:1", "server:2")
	testEnv.Test(t, feature("plan").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), podsAreReady(3),
			applyForcedAs("argocd-controller", threeReplicas), ownerIs("argocd-controller"))).
		Assess("nothing changes", plugin(exitOK, []string{"would change nothing"}, "plan", server)).
		Assess("of a manifest, it has the effects", holds(3, pluginWith(changed, exitFound, []string{
			`Scale: 3 → 2, taken from "argocd-controller"`, `.spec.template.spec.containers[name="mcp"].image`, "Pods restart",
			`+        image: registry.example/server:2`,
		}, "plan", "-f", "-"), imageIs("registry.example/server:1"))).
		Assess("of a manifest with a conflict, it names the manager", pluginWith(changed, exitFound,
			[]string{`Conflict: "kubectl" owns .spec.image`, "--force-conflicts"}, "plan", "-f", "-", "--field-manager=argocd-controller")).
		Assess("of a new MCPServer, it creates the children", pluginWith(strings.ReplaceAll(changed, "name: web", "name: other"), exitFound,
			[]string{`Create StatefulSet "other"`, "starts at 2"}, "plan", "-f", "-")).
		Assess("as JSON", pluginWith(changed, exitFound, []string{`"restarts": [`, `"owner": "argocd-controller"`}, "plan", "-f", "-", "-o", "json")).
		Assess("of a refused manifest, it is an error", pluginWith(strings.ReplaceAll(changed, "replicas: 2", "replicas: 2, tools: [a]"), exitError,
			[]string{"spec.tools", "not supported"}, "plan", "-f", "-")).
		Assess("without an MCPServer, it is an error", plugin(exitError, []string{"requires either"}, "plan")).
		Feature())
}

// TestThePluginExplains verifies that all owners of a field are shown, and the tools to ask.
func TestThePluginExplains(t *testing.T) {
	testEnv.Test(t, feature("explain and owners").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3),
			applyForcedAs("argocd-controller", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, annotations: {argocd.argoproj.io/tracking-id: "shop:apps/StatefulSet:x/web"}}, spec: {replicas: 3}}`),
			apply(autoscaler("web", onMCPServer, 3)))).
		Assess("why the scale is what it is, and whom to ask", plugin(exitOK, []string{
			"The scale is 3 and belongs to \"argocd-controller\"", "declares no number", "HorizontalPodAutoscaler/web of the MCPServer", `Ask: Argo CD Application "shop"`,
			`.spec.template.spec.containers[name="mcp"].image`, "mcpserver-operator (Apply)", `Service "mcp-web-proxy"`,
		}, "explain", server)).
		Assess("as YAML", plugin(exitOK, []string{"child: StatefulSet"}, "explain", server, "-o=yaml")).
		Assess("an unknown format", plugin(exitError, []string{`invalid value "xml" of --output`}, "explain", server, "-o=xml")).
		Assess("its name is completed", step(func(ctx context.Context, t *testing.T) {
			_, stdout, stderr, err := theCluster.Plugin(ctx, "development", "", "__complete", "explain", "--namespace="+in(ctx), "")
			must(t, err)
			if !strings.HasPrefix(stdout, server+"\n") {
				t.Errorf("completed %q, %s", stdout, stderr)
			}
		})).
		Assess("the owners of a field of any object", plugin(exitOK, []string{".spec.replicas", "argocd-controller (Apply)"}, "owners", "statefulset/web", ".spec.replicas")).
		Assess("a field moves between managers of any object", all(
			plugin(exitOK, []string{"now belongs to helm"}, "handover", "statefulset/web", ".spec.replicas", "--from=argocd-controller", "--to=helm"),
			scaleIsOwnedBy("helm/Apply"), scaleIs(3))).
		Assess("a manager that does not own it", plugin(exitError, []string{`no such field manager`, `"helm"`}, "handover", "statefulset/web", ".spec.replicas", "--from=flux", "--to=nobody")).
		Feature())
}

// TestThePluginAudits verifies that the audit reads all versions of the API, before the CRD is replaced.
func TestThePluginAudits(t *testing.T) {
	testEnv.Test(t, feature("audit").
		Setup(all(storedByAnotherCRD(withField("v1beta1", "oidcConfigRef", "{name: o}")))).
		Assess("names the refused field", plugin(exitFound, []string{"spec.oidcConfigRef", "refused"}, "audit")).
		Assess("of one MCPServer", plugin(exitFound, []string{"spec.oidcConfigRef"}, "audit", server)).
		Assess("of an MCPServer that does not exist", plugin(exitError, []string{`no MCPServer "other"`}, "audit", "other")).
		Feature())
	testEnv.Test(t, feature("audit of a manifest that is carried out").
		Setup(apply(undeclared)).
		Assess("finds nothing", plugin(exitOK, []string{"1 MCPServer: all fields are carried out"}, "audit")).
		Feature())
}

// TestThePluginUpdates verifies that the plugin names the pods and the fields before it restarts pods, and that the operator then applies its pod template.
func TestThePluginUpdates(t *testing.T) {
	const fastmcp = `.spec.template.spec.containers[0].env[?(@.name=="FASTMCP_PORT")].value`
	upgraded := all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2),
		withoutOperator(anEarlierOperatorHasApplied()), podsAreReady(2), conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"))
	restarts := []string{"update from pod template 0 to", "in a rolling update: web-1, web-0", `env[name="FASTMCP_PORT"]`}
	testEnv.Test(t, feature("update").
		Setup(upgraded).
		Assess("a dry run says what would restart, and why", all(
			plugin(exitFound, []string{"would be updated from pod template 0 to", restarts[1], restarts[2]}, "update", server, "--dry-run"),
			passesAreForced(2), eventuallyPrints("", "statefulset/web", fastmcp))).
		Assess("it says so, and the operator applies its pod template", all(
			plugin(exitOK, append(restarts, "the rollout has ended"), "update", server, "--wait", "--timeout=2m"),
			eventuallyPrints("8080", "statefulset/web", fastmcp), podsAreReady(2), scaleIs(2), conditionIsGone(v1beta1.ConditionUpdateAvailable))).
		Assess("and there is no other", plugin(exitOK, []string{"no update is available"}, "update", server)).
		Assess("without a name, it is an error", plugin(exitError, []string{"requires either"}, "update")).
		Feature())

	testEnv.Test(t, feature("update of a suspended MCPServer").
		Setup(all(upgraded, kubectl("patch", "mcpserver", server, "--type=merge", "-p", `{"spec":{"suspend":true}}`))).
		Assess("waits until it is resumed", all(plugin(exitOK, []string{"not updated, because it is suspended"}, "update", server),
			eventuallyPrints("", "mcpserver/web", `.metadata.annotations.toolhive\.stacklok\.dev/update-pod-template`))).
		Feature())

	const runner = `.spec.template.spec.containers[?(@.name=="runner")].image`
	testEnv.Test(t, feature("update to an operator with a runner, for which the plugin cannot plan").
		Setup(all(apply(httpServer), scaleIs(1), podsAreReady(1), operatorWithRunner("registry.example/operator:1"),
			conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"))).
		Teardown(operatorIsBack()).
		Assess("says why with the words of the operator", plugin(exitFound, []string{"Why: the pods run revision", "web-0"}, "update", "-A", "--dry-run")).
		Assess("brings the runner", all(plugin(exitOK, []string{"the operator has applied the pod template"}, "update", "-A"),
			eventuallyPrints("registry.example/operator:1", "statefulset/web", runner), podsAreReady(1))).
		Feature())
}
