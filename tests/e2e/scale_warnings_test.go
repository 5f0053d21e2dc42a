package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
)

// TestAWarningBeforeAManifestTakesTheScale verifies that the policies of deploy/admission/scale warn exactly about the changes that take the
// scale from an autoscaler, and let all changes through.
func TestAWarningBeforeAManifestTakesTheScale(t *testing.T) {
	kustomization := filepath.Join("deploy", "admission", "scale") // kubectl runs in the root of the repository
	_, err := theCluster.Kubectl(t.Context(), "apply", "--server-side", "-k", kustomization)
	must(t, err)
	t.Cleanup(func() {
		_, err := theCluster.Kubectl(context.Background(), "delete", "-k", kustomization)
		must(t, err)
	})
	for _, policy := range []string{"autoscaled-workloads", "mcpserver-autoscaled"} {
		eventually(t.Context(), t, "the check of the types of "+policy, func(ctx context.Context) (string, bool) {
			out, err := theCluster.Kubectl(ctx, "get", "validatingadmissionpolicy", policy, "-o",
				"jsonpath={.status.observedGeneration}:{.status.typeChecking.expressionWarnings}")
			must(t, err)
			return out, out == "1:"
		})
	}
	for kind, other := range map[string]string{"StatefulSet": "Deployment", "Deployment": "StatefulSet"} {
		warning := "HorizontalPodAutoscaler/web scales this " + kind + ", and this change sets spec.replicas from "
		target := strings.ToLower(kind) + "/web"
		testEnv.Test(t, feature("a "+kind+" that an autoscaler scales").
			Setup(all(apply(workload(kind, "web", "")), apply(workload(other, "web", "")), apply(workload(kind, "free", "")),
				apply(autoscaler("web", "apiVersion: apps/v1, kind: "+kind, 2)), replicasAre(target, "2"))).
			Assess("a manifest with another number", eventuallyWarns(warning+"2 to 3: remove replicas", workload(kind, "web", "replicas: 3"), "apply", "--server-side")).
			Assess("the same, client-side", warns(warning+"2 to 3", workload(kind, "web", "replicas: 3"), "apply")).
			Assess("the same number by a new owner", warns(warning+"2 to 2", workload(kind, "web", "replicas: 2"), "apply", "--server-side")).
			Assess("a patch", warns(warning+"2 to 3", "", "patch", target, "--type=merge", "-p", `{"spec":{"replicas":3}}`)).
			Assess("an update", warns(warning+"2 to 3", workload(kind, "web", "replicas: 3"), "replace")).
			Assess("no warning without replicas", all(
				isSilent(workload(kind, "web", "minReadySeconds: 1"), "apply", "--server-side"),
				isSilent(workload(kind, "web", "minReadySeconds: 1"), "apply"))).
			Assess("no warning about an update with the present number", isSilent(workload(kind, "web", "replicas: 2, minReadySeconds: 1"), "replace")).
			Assess("no warning about kubectl scale", isSilent("", "scale", target, "--replicas=3")).
			Assess("no warning about a declaration that the operator carries out", isSilent(workload(kind, "web", "replicas: 3"),
				"apply", "--server-side", "--field-manager="+applyconfigs.FieldManager)).
			Assess("no warning about other changes", all(isSilent("", "label", target, "a=b"), isSilent("", "set", "image", target, "a=registry.example/a:2"))).
			Assess("no warning about another object", isSilent(workload(kind, "free", "replicas: 3"), "apply", "--server-side")).
			Assess("no warning about another kind", isSilent(workload(other, "web", "replicas: 3"), "apply", "--server-side")).
			Assess("no warning about a new object", isSilent(workload(kind, "new", "replicas: 3"), "apply", "--server-side")).
			Assess("no warning about a manifest that already owned the number", all(apply(workload(kind, "web", "replicas: 2")),
				isSilent(workload(kind, "web", "replicas: 2, minReadySeconds: 1"), "apply", "--server-side"))).
			Assess("the removal of the number, which resets it", warns(warning+"2 to 1", workload(kind, "web", ""), "apply", "--server-side")).
			Assess("an apply that takes the number back by force", all(
				apply(autoscaler("web", "apiVersion: apps/v1, kind: "+kind, 4)), replicasAre(target, "4"),
				warns(warning+"4 to 2", workload(kind, "web", "replicas: 2"), "apply", "--server-side", "--force-conflicts"))).
			Feature())
	}
	const onChild = "HorizontalPodAutoscaler/web scales the StatefulSet of this MCPServer, and the operator will take the scale over with "
	testEnv.Test(t, feature("an MCPServer whose StatefulSet an autoscaler scales").
		Setup(all(apply(undeclared), apply(autoscaler("web", onStatefulSet, 2)), scaleIs(2))).
		Assess("a declaration", eventuallyWarns(onChild+"3 replicas: remove spec.replicas", declared(3), "apply", "--server-side")).
		Assess("a declaration by ToolHive's field", warns(onChild+"3", mcpServerWith("{image: a, backendReplicas: 3}"), "apply", "--server-side", "--force-conflicts")).
		Assess("no warning without a declaration", isSilent(mcpServerWith(`{image: "registry.example/server:2"}`), "apply", "--server-side", "--force-conflicts")).
		Assess("no warning about a new MCPServer", isSilent(strings.ReplaceAll(declared(3), "name: web", "name: new"), "apply", "--server-side")).
		Assess("no warning about the same declaration", all(apply(declared(2)), ownerIs("MCPServer"),
			isSilent(strings.ReplaceAll(declared(2), "server:1", "server:2"), "apply", "--server-side"))).
		Assess("no warning about the removal, which keeps the scale", isSilent(undeclared, "apply", "--server-side")).
		Assess("the policy Force", warns(onChild+"2", "", "patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"replicasConflictPolicy":"Force"}}`)).
		Feature())
	const onServer = "HorizontalPodAutoscaler/web scales this MCPServer, and this change sets spec.replicas to "
	testEnv.Test(t, feature("an MCPServer that an autoscaler scales").
		Setup(all(apply(undeclared), kubectl("scale", "mcpserver/web", "--replicas=2"), apply(autoscaler("web", onMCPServer, 2)))).
		Assess("a declaration", eventuallyWarns(onServer+"3: remove replicas", declared(3), "apply", "--server-side", "--force-conflicts")).
		Assess("the same number by a new owner", warns(onServer+"2", declared(2), "apply", "--server-side", "--force-conflicts")).
		Assess("no warning without replicas", isSilent(mcpServerWith(`{image: "registry.example/server:2"}`), "apply", "--server-side", "--force-conflicts")).
		Assess("no warning about kubectl scale", isSilent("", "scale", "mcpserver/web", "--replicas=3")).
		Feature())
}

// workload returns a StatefulSet or Deployment without a field that the other kind does not have.
func workload(kind, name, spec string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %s
metadata: {name: %s}
spec:
  selector: {matchLabels: {app: %s}}
  template:
    metadata: {labels: {app: %s}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - {name: a, image: "registry.example/a:1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
  %s
`, kind, name, name, name, strings.ReplaceAll(spec, ", ", "\n  "))
}

// replicasAre waits until spec.replicas of an object has a value.
func replicasAre(object, want string) features.Func {
	return kubectl("wait", "--for=jsonpath={.spec.replicas}="+want, "--timeout=60s", object)
}

const scaleWarning = "Warning: Validation failed for ValidatingAdmissionPolicy"

// warns runs a kubectl command with --dry-run=server, which must succeed and print a warning.
func warns(warning, manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if out := dryRun(ctx, t, manifest, args...); !strings.Contains(out, scaleWarning) || !strings.Contains(out, warning) {
			t.Errorf("want a warning with %q, got: %s", warning, out)
		}
	})
}

// eventuallyWarns repeats the command of warns until it prints the warning: policies, and autoscalers for them, take effect with a delay.
func eventuallyWarns(warning, manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the warning", func(ctx context.Context) (string, bool) {
			out := dryRun(ctx, t, manifest, args...)
			return out, strings.Contains(out, scaleWarning) && strings.Contains(out, warning)
		})
	})
}

// isSilent runs a kubectl command with --dry-run=server, which must succeed without such a warning.
func isSilent(manifest string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if out := dryRun(ctx, t, manifest, args...); strings.Contains(out, scaleWarning) {
			t.Errorf("want no warning, got: %s", out)
		}
	})
}

func dryRun(ctx context.Context, t *testing.T, manifest string, args ...string) string {
	t.Helper()
	args = append(args, "--dry-run=server", "-n", in(ctx))
	if manifest != "" {
		args = append(args, "-f", "-")
	}
	out, err := theCluster.KubectlWithInput(ctx, manifest, args...)
	must(t, err)
	return out
}
