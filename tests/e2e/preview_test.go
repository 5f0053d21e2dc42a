package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestThePreviewOfAnMCPServerWithoutChildren verifies that the preview of a new MCPServer has the complete StatefulSet, and that the preview of
// a suspended one has what the operator does when it is resumed. The operator is stopped, so that there are no children.
func TestThePreviewOfAnMCPServerWithoutChildren(t *testing.T) {
	testEnv.Test(t, feature("preview").
		Setup(operatorStops()).
		Assess("of a new MCPServer", all(apply(undeclared), step(func(ctx context.Context, t *testing.T) {
			previewHas(ctx, t, "Create StatefulSet \"web\": it does not exist", "+        image: registry.example/server:1", "+          value: 0.0.0.0")
		}))).
		Assess("of a suspended MCPServer", all(apply(suspendedWith("registry.example/server:3")), step(func(ctx context.Context, t *testing.T) {
			previewHas(ctx, t, "is suspended", "spec.suspend", "Create StatefulSet \"web\"", "+        image: registry.example/server:3")
		}))).
		Assess("writes nothing", step(func(ctx context.Context, t *testing.T) {
			var sets appsv1.StatefulSetList
			must(t, theCluster.Client.List(ctx, &sets, client.InNamespace(in(ctx))))
			if len(sets.Items) > 0 {
				t.Error("the StatefulSet exists")
			}
		})).
		Feature())
}

// previewHas fails unless the preview has all the given texts.
func previewHas(ctx context.Context, t *testing.T, texts ...string) {
	t.Helper()
	out := preview(ctx, t)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("the preview has no %q:\n%s", text, out)
		}
	}
}

// preview runs the operator with --preview as the administrator.
func preview(ctx context.Context, t *testing.T) string {
	t.Helper()
	command := exec.CommandContext(ctx, operator.Binary(), "--preview="+in(ctx)+"/"+server)
	command.Env = append(os.Environ(), "KUBECONFIG="+theCluster.Kubeconfig)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
