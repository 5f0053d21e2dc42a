package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

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

// TestAPlanSaysWhatRestartsAndWhatDoesNot verifies the plans of changes that do not simply restart the pods.
func TestAPlanSaysWhatRestartsAndWhatDoesNot(t *testing.T) {
	const nextImage = "registry.example/server:2"
	restarts := []string{"Pods restart"}

	testEnv.Test(t, feature("OnDelete").
		Setup(all(apply(strategy("registry.example/server:1", "{type: OnDelete}")), scaleIs(1))).
		Assess("no pod restarts by itself", all(
			pluginWith(strategy(nextImage, "{type: OnDelete}"), exitFound, []string{"when you delete it (updateStrategy OnDelete)", `containers[name="mcp"].image`}, "plan", "-f", "-"),
			pluginLacks(strategy(nextImage, "{type: OnDelete}"), restarts, "plan", "-f", "-"))).
		Assess("a plan that ends OnDelete restarts them", pluginWith(strategy(nextImage, "{type: RollingUpdate}"), exitFound, restarts, "plan", "-f", "-")).
		Feature())

	testEnv.Test(t, feature("a recreation").
		Setup(all(apply(undeclared), scaleIs(1))).
		Assess("is named, with the claim", pluginWith(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: registry.example/server:1
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
`, exitFound, []string{"must be recreated for the volumeClaimTemplates data"}, "plan", "-f", "-")).
		Feature())

	testEnv.Test(t, feature("an upgrade of the operator").
		Setup(all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs(2),
			operatorStops(), anEarlierOperatorHasApplied(), operatorStarts(), conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"))).
		Assess("is not applied without a request", all(plugin(exitOK, []string{"Not applied without your request", "FASTMCP_PORT"}, "plan", server), pluginLacks("", restarts, "plan", server))).
		Feature())

	testEnv.Test(t, feature("a suspended MCPServer").
		Setup(all(apply(undeclared), scaleIs(1), apply(suspendedWith(nextImage)))).
		Assess("changes when it is resumed", plugin(exitFound, []string{"is suspended. When it is resumed", `containers[name="mcp"].image`}, "plan", server)).
		Feature())
}

// TestAPlanIsThatOfTheOperatorOnTheCluster verifies that the plugin reads the flags and the version of the operator from its Deployment.
func TestAPlanIsThatOfTheOperatorOnTheCluster(t *testing.T) {
	deployed := func(image string) features.Func {
		return apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: mcpserver-operator, labels: {app.kubernetes.io/name: mcpserver-operator}}
spec:
  replicas: 0
  selector: {matchLabels: {app: operator}}
  template:
    metadata: {labels: {app: operator}}
    spec: {containers: [{name: manager, image: %q, args: [--runner-image=registry.example/operator:9]}]}
`, image))
	}
	const stdioServer = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: files}
spec: {image: "registry.example/files:1", transport: stdio, command: [files]}
`
	testEnv.Test(t, feature("an operator with --runner-image").
		Setup(deployed("registry.example/operator:latest")).
		Assess("the plan has the runner", pluginWith(stdioServer, exitFound, []string{"registry.example/operator:9"}, "plan", "-f", "-")).
		Assess("the plan of another minor is refused", all(deployed("registry.example/operator:v1.3.0"), step(func(ctx context.Context, t *testing.T) {
			code, _, stderr, err := theCluster.Plugin(ctx, "v1.2.0", "", "takeover", "--dry-run", "-n", in(ctx))
			must(t, err)
			if code != exitError || !containsAll(stderr, []string{"v1.3.0", "v1.2.0", "use the plugin of the operator's release"}) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		}))).
		Feature())
}

// TestAPlanOfAnMCPServerOfToolHive: the operator writes only the status until the takeover, and the plan is what follows then.
func TestAPlanOfAnMCPServerOfToolHive(t *testing.T) {
	testEnv.Test(t, feature("an MCPServer that is not taken over").
		Setup(all(operatorStops(), step(func(ctx context.Context, t *testing.T) {
			theirs{name: server, generation: beforeAugust, replicas: 1}.leave(ctx, t)
		}))).
		Assess("the plan is that of a taken over MCPServer", all(
			plugin(exitFound, []string{"belongs to ToolHive's operator. When it is taken over, with kubectl mcpserver takeover web -n", `Migrate StatefulSet "web"`}, "plan", server),
			pluginLacks("", []string{"Refuse"}, "plan", server))).
		Assess("the preview of the operator says so too", step(func(ctx context.Context, t *testing.T) {
			previewHas(ctx, t, "the operator writes only its status until it is taken over, with kubectl mcpserver takeover web")
		})).
		Feature())
}
