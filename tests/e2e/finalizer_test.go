package e2e

import (
	"context"
	"regexp"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"mcpserver-operator/crd/v1beta1"
)

// TestADeletionThatWaitsForAFinalizerSaysSo: ToolHive's operator sets a finalizer on each MCPServer, and nobody removes it when that operator
// no longer runs.
func TestADeletionThatWaitsForAFinalizerSaysSo(t *testing.T) {
	testEnv.Test(t, feature("a finalizer of ToolHive's operator").
		Setup(all(apply(undeclared), scaleIs(1), kubectl("patch", "mcpserver", server, "--type=merge", "-p",
			`{"metadata":{"finalizers":["example.com/other","mcpserver.toolhive.stacklok.dev/finalizer"]}}`))).
		Assess("the condition names it, with the command that removes it", all(
			kubectl("delete", "mcpserver", server, "--wait=false"),
			conditionSays(v1beta1.ConditionReconciling, "Terminating", `"example.com/other"`, "mcpserver.toolhive.stacklok.dev/finalizer", "kubectl"),
			step(func(ctx context.Context, t *testing.T) {
				message := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionReconciling).Message
				command := regexp.MustCompile(`kubectl -n (\S+) patch (\S+) (\S+) --type=json -p '([^']+)'`).FindStringSubmatch(message)
				if command == nil {
					t.Fatalf("no command in %q", message)
				}
				clusterKubectl("-n", command[1], "patch", command[2], command[3], "--type=json", "-p", command[4])(ctx, t, nil)
			}),
			eventuallyPrints(`["example.com/other"]`, "mcpserver/web", ".metadata.finalizers"))).
		Assess("it is deleted when all are removed", all(
			kubectl("patch", "mcpserver", server, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`),
			kubectl("wait", "--for=delete", "--timeout=60s", "mcpserver/"+server))).
		Feature())
}
