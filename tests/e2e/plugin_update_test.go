package e2e

import (
	"testing"

	"mcpserver-operator/crd/v1beta1"
)

// TestThePluginUpdates verifies that the plugin names the pods and the fields before it restarts pods, and that the operator then applies its pod template.
func TestThePluginUpdates(t *testing.T) {
	const fastmcp = `.spec.template.spec.containers[0].env[?(@.name=="FASTMCP_PORT")].value`
	upgraded := all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2),
		operatorStops(), anEarlierOperatorHasApplied(), operatorStarts(), podsAreReady(2), conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"))
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
		Assess("says why with the words of the operator", plugin(exitFound, []string{"Why: the pods run revision", "web-0"}, "update", "-A", "--dry-run")).
		Assess("brings the runner", all(plugin(exitOK, []string{"the operator has applied the pod template"}, "update", "-A"),
			eventuallyPrints("registry.example/operator:1", "statefulset/web", runner), podsAreReady(1))).
		Feature())
}
