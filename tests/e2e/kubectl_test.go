package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/tests/cluster"
)

// What kubectl does to an MCPServer and to its StatefulSet, command by command, as docs/operations.md has it. What writes
// replicas is in kubectl_replicas_test.go, what does something else to the StatefulSet in kubectl_statefulset_test.go,
// and what only looks is here.

// TestDiff: kubectl diff shows what an apply would change, nothing after one, and whose field it would meet.
func TestDiff(t *testing.T) {
	testEnv.Test(t, feature("kubectl diff --server-side").
		Assess("of what was applied shows nothing", all(applyAs("kubectl", declared(2)), scaleIs(2),
			step(func(ctx context.Context, t *testing.T) {
				out, err := theCluster.KubectlWithInput(ctx, declared(2), "diff", "--server-side", "-n", in(ctx), "-f", "-")
				must(t, err)
				if out != "" {
					t.Fatalf("there is a difference:\n%s", out)
				}
			}))).
		Assess("of another number shows it", fails("-  replicas: 2\n+  replicas: 3\n", declared(3), "diff", "--server-side", "-f", "-")).
		Assess("of a number that somebody else has changed says who", all(
			kubectl("scale", "mcpserver/web", "--replicas=3"), scaleIs(3),
			refused(`conflict with "kubectl" with subresource "scale"`, declared(2), "diff", "--server-side", "-f", "-"))).
		Feature())
}

// TestGetAndWait: what kubectl prints, and what a script can wait for.
func TestGetAndWait(t *testing.T) {
	testEnv.Test(t, feature("kubectl get and wait").
		Assess("waits for Ready", all(apply(declared(2)),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/web"), printed([]string{"2"},
				"get", "statefulset", server, "-o", "jsonpath={.status.readyReplicas}"))).
		Assess("-o wide adds the phase and the reason", printed([]string{"PHASE", "REASON", "Ready", "PodsReady"}, "get", "mcp", "-o", "wide")).
		Assess("--show-managed-fields says who owns the scale", printed([]string{"mcpserver-operator"}, "get", "statefulset", server,
			"--show-managed-fields", "-o", `jsonpath={.metadata.managedFields[?(@.fieldsV1.f:spec.f:replicas)].manager}`)).
		Assess("waits for an owner of the scale", all(
			kubectl("scale", "statefulset", server, "--replicas=3"),
			kubectl("wait", "--for=jsonpath={.status.scale.owner}=kubectl", "--timeout=90s", "mcpserver/web"), scaleIs(3))).
		Assess("and fails when it does not come", refused("timed out waiting for the condition on mcpservers/web", "",
			"wait", "--for=jsonpath={.status.scale.owner}=MCPServer", "--timeout=1s", "mcpserver/web")).
		Assess("explain tells what the owner can be", printed([]string{"HorizontalPodAutoscaler/NAME", "ScaledObject/NAME", "Unclaimed"},
			"explain", "mcpserver.status.scale")).
		Feature())
}

// kubectlOf runs kubectl in the namespace of the test with a manifest as its input.
func kubectlOf(manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		must(t, err)
	})
}

// fails fails unless kubectl, with a manifest or nothing as its input, does, with a text.
func fails(text, manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		out, err := theCluster.KubectlWithInput(ctx, manifest, append([]string{"-n", in(ctx)}, args...)...)
		if err == nil || !strings.Contains(out, text) {
			t.Fatalf("kubectl %s has to fail with %q, but printed (%v):\n%s", strings.Join(args, " "), text, err, out)
		}
	})
}

// refused fails unless kubectl fails with a text that its users find in docs/operations.md.
func refused(text, manifest string, args ...string) features.Func {
	return all(fails(text, manifest, args...), step(func(_ context.Context, t *testing.T) {
		t.Helper()
		docs, err := os.ReadFile("../../docs/operations.md")
		must(t, err)
		if !strings.Contains(string(docs), text) {
			t.Errorf("docs/operations.md does not explain %q", text)
		}
	}))
}

// scaleIsOwnedBy waits until spec.replicas of the StatefulSet is owned by exactly these field managers, each as
// NAME/OPERATION or NAME/OPERATION/SUBRESOURCE.
func scaleIsOwnedBy(managers ...string) features.Func {
	return replicasAreOwnedBy(func(ctx context.Context, t *testing.T) client.Object { return statefulSet(ctx, t) }, managers)
}

// declarationIsOwnedBy waits until spec.replicas of the MCPServer is owned by exactly these field managers.
func declarationIsOwnedBy(managers ...string) features.Func {
	return replicasAreOwnedBy(func(ctx context.Context, t *testing.T) client.Object { return mcpServer(ctx, t) }, managers)
}

func replicasAreOwnedBy(object func(context.Context, *testing.T) client.Object, managers []string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("spec.replicas owned by %q", managers), func(ctx context.Context) (string, bool) {
			owners, err := cluster.OwnersOfReplicas(object(ctx, t))
			must(t, err)
			return fmt.Sprintf("%q", owners), slices.Equal(owners, managers)
		})
	})
}
