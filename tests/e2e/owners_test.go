package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// autoscaler returns a HorizontalPodAutoscaler with a fixed number of replicas, independent of metrics.
func autoscaler(name, target string, replicas int32) string {
	return fmt.Sprintf(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %s}
spec:
  scaleTargetRef: {%s, name: web}
  minReplicas: %d
  maxReplicas: %d
`, name, target, replicas, replicas)
}

const (
	threeReplicas = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {replicas: 3}}"
	onStatefulSet = "apiVersion: apps/v1, kind: StatefulSet"
	onMCPServer   = "apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer"
)

// TestTheOwnerOfTheScaleHasAName verifies that the status names each manager that scales a declared server.
func TestTheOwnerOfTheScaleHasAName(t *testing.T) {
	testEnv.Test(t, feature("declared 2 with Yield").
		Assess("MCPServer", all(apply(declared(2)), scaleIs(2), ownerIs("MCPServer"))).
		Assess("argocd-controller", all(applyForcedAs("argocd-controller", threeReplicas), scaleIs(3), ownerIs("argocd-controller"))).
		Assess("helm", all(applyForcedAs("helm", strings.ReplaceAll(threeReplicas, "3", "4")), scaleIs(4), ownerIs("helm"))).
		Assess("kustomize-controller", all(
			applyForcedAs("kustomize-controller", threeReplicas), scaleIs(3), ownerIs("kustomize-controller"))).
		Assess("kubectl", all(kubectl("scale", "statefulset", server, "--replicas=1"), scaleIs(1), ownerIs("kubectl"))).
		Assess("HorizontalPodAutoscaler/web", all(
			apply(autoscaler("web", onStatefulSet, 4)), scaleIs(4), ownerIs("HorizontalPodAutoscaler/web"),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded", "HorizontalPodAutoscaler/web", "to 4"),
			printed([]string{"HorizontalPodAutoscaler/web"}, "get", "mcpservers"),
			kubectl("delete", "hpa", "web"))).
		Assess("ScaledObject/mcp, if KEDA created the autoscaler", all(
			apply(autoscaler("keda-hpa-mcp", onStatefulSet, 5)), kubectl("patch", "hpa", "keda-hpa-mcp", "--type=merge", "-p", `{"metadata":{"ownerReferences":[{
				"apiVersion":"keda.sh/v1alpha1","kind":"ScaledObject","name":"mcp","controller":true,
				"uid":"00000000-0000-0000-0000-00000000000a"}]}}`),
			scaleIs(5), ownerIs("ScaledObject/mcp"))).
		Assess("the status lists the last transfers", printed(
			[]string{"kustomize-controller", "kubectl", "HorizontalPodAutoscaler/web"},
			"get", "mcpserver", server, "-o", "jsonpath={.status.scale.transfers[*].to}")).
		Feature())
}

// TestAnUnrecordedWriteIsReportedAsWhatItIs: if nobody owns the scale, Kubernetes records no owner for a write through /scale.
func TestAnUnrecordedWriteIsReportedAsWhatItIs(t *testing.T) {
	testEnv.Test(t, feature("delegated, then kubectl scale").
		Assess("nobody owns the scale", all(apply(undeclared), scaleIs(1), ownerIs("Unclaimed"))).
		Assess("nobody owns the scale after kubectl scale", all(kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("Unclaimed"))).
		Assess("an event reports the change", eventSays("ScaleTransferred", "from 1 to 3", "/scale", "no owner")).
		Assess("a field manager that claims the scale is named", all(
			kubectl("patch", "statefulset", server, "--type=merge", "-p", `{"spec":{"replicas":2}}`), scaleIs(2),
			ownerIs("kubectl-patch"), eventSays("ScaleTransferred", `"kubectl-patch"`, "from 3 to 2"))).
		Feature())
}

// TestAFightEnds verifies that the operator backs off, instead of making pods flap forever, when an autoscaler works against Force.
func TestAFightEnds(t *testing.T) {
	testEnv.Test(t, feature("declared 2 with Force, and an autoscaler that wants 4").
		Assess("declared", all(apply(declaredWith(2, v1beta1.ReplicasConflictForce)), scaleIs(2))).
		Assess("the operator restores the scale three times", all(
			apply(autoscaler("web", onStatefulSet, 4)), takeBacksAre(3))).
		Assess("the operator backs off and names the autoscaler and the remedy", all(
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleFight",
				"HorizontalPodAutoscaler/web", "declares 2", `Delete HorizontalPodAutoscaler "web"`, "Yield"),
			eventSays("ScaleFight", "HorizontalPodAutoscaler/web"))).
		// The first delay is 10 s. The autoscaler takes up to 2 s of it.
		Assess("the pods stay during the back-off", all(replicasBecome(4), holds(4, wait(5*time.Second)))).
		Assess("without the autoscaler, the scale is as declared", all(
			kubectl("delete", "hpa", "web"), scaleIs(2), holds(2, wait(3*time.Second)))).
		Feature())
}

// TestAutoscalerProblems verifies that a condition reports each problem of an autoscaler with the fix, and disappears after the fix.
func TestAutoscalerProblems(t *testing.T) {
	problem := func(reason string, words ...string) features.Func {
		return all(conditionSays(v1beta1.ConditionAutoscalerProblem, reason, words...), eventSays(reason, words...))
	}
	gone := conditionIsGone(v1beta1.ConditionAutoscalerProblem)
	streaming := `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", transport: streamable-http%s}
`
	testEnv.Test(t, feature("against Force").
		Assess("found", all(apply(fmt.Sprintf(streaming, ", replicas: 2, replicasConflictPolicy: Force")), scaleIs(2),
			apply(autoscaler("web", onStatefulSet, 2)),
			problem("AutoscalerAgainstForce", "HorizontalPodAutoscaler/web", "remove spec.replicas", "Yield"))).
		Assess("fixed", all(apply(fmt.Sprintf(streaming, ", replicas: 2")), gone)).
		Feature())
	testEnv.Test(t, feature("on an MCPServer that does not declare").
		Assess("found", all(apply(fmt.Sprintf(streaming, "")), apply(autoscaler("web", onMCPServer, 2)),
			problem("AutoscalerOnUndeclared", "HorizontalPodAutoscaler/web", `StatefulSet "web"`, "set spec.replicas"))).
		Assess("fixed", all(apply(fmt.Sprintf(streaming, ", replicas: 1")), gone, scaleIs(2), ownerIs("MCPServer"))).
		Feature())
	testEnv.Test(t, feature("two on one server").
		Assess("found", all(apply(fmt.Sprintf(streaming, "")),
			apply(autoscaler("one", onStatefulSet, 2)), apply(autoscaler("two", onStatefulSet, 2)),
			problem("AutoscalersCompete", "HorizontalPodAutoscaler/one", "HorizontalPodAutoscaler/two", "delete all but one"))).
		Assess("fixed", all(kubectl("delete", "hpa", "two"), gone)).
		Feature())
	testEnv.Test(t, feature("without a resource request for its metric").
		Assess("found", all(apply(fmt.Sprintf(streaming, "")), scaleIs(1),
			kubectl("autoscale", "statefulset", server, "--min=1", "--max=3", "--cpu=80%"),
			problem("AutoscalerWithoutRequest", `container "mcp"`, "set resources.requests.cpu"))).
		Assess("fixed", all(kubectl("set", "resources", "statefulset", server, "--requests=cpu=100m"), gone)).
		Feature())
}

// TestScaleMetrics verifies that metrics report the owner and the transfers of the scale.
func TestScaleMetrics(t *testing.T) {
	testEnv.Test(t, feature("declared 2, then scaled by kubectl").
		Assess("the scale changes", all(apply(declared(2)), scaleIs(2), ownerIs("MCPServer"),
			kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3), ownerIs("kubectl"))).
		Assess("the metrics count it", step(func(ctx context.Context, t *testing.T) {
			families, err := operator.Metrics(ctx)
			must(t, err)
			for _, name := range []string{"mcpserver_applies_total", "mcpserver_scale_transfers_total", "mcpserver_scale_fights_total"} {
				if families[name] == nil {
					t.Errorf("no metric %s", name)
				}
			}
			var owners []string
			for _, metric := range families["mcpserver_scale_owner"].GetMetric() {
				labels := map[string]string{}
				for _, label := range metric.GetLabel() {
					labels[label.GetName()] = label.GetValue()
				}
				if labels["namespace"] == in(ctx) {
					owners = append(owners, labels["owner"])
				}
			}
			if len(owners) != 1 || owners[0] != "kubectl" {
				t.Errorf("unexpected owners %v", owners)
			}
		})).
		Feature())
}

// TestTheRecordIsNotForUsers verifies that a change or removal of the annotation neither declares the scale nor restores it.
func TestTheRecordIsNotForUsers(t *testing.T) {
	testEnv.Test(t, feature("declared 3, scaled to 5").
		Assess("yielded", all(apply(declared(3)), scaleIs(3),
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("the scale stays when the annotation is removed", holds(5,
			kubectl("annotate", "statefulset", server, v1beta1.DeclaredReplicasAnnotation+"-"), passesAreForced(3), scaleIs(5))).
		Assess("the scale stays when the annotation is edited", holds(5,
			kubectl("annotate", "statefulset", server, "--overwrite", v1beta1.DeclaredReplicasAnnotation+"=7"),
			passesAreForced(3), scaleIs(5))).
		Assess("the operator restores the annotation", printed([]string{"3"}, "get", "statefulset", server,
			"-o", `jsonpath={.metadata.annotations.toolhive\.stacklok\.dev/declared-replicas}`)).
		Feature())
}

func ownerIs(owner string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "scale owner "+owner, func(ctx context.Context) (string, bool) {
			scale := mcpServer(ctx, t).Status.Scale
			return fmt.Sprintf("%+v", scale), scale != nil && scale.Owner == owner
		})
	})
}

func takeBacksAre(count int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d take-backs", count), func(ctx context.Context) (string, bool) {
			scale := mcpServer(ctx, t).Status.Scale
			return fmt.Sprintf("%+v", scale), scale != nil && scale.TakeBacks != nil && scale.TakeBacks.Count == count
		})
	})
}

func replicasBecome(n int32) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("%d replicas", n), func(ctx context.Context) (string, bool) {
			got := replicas(statefulSet(ctx, t))
			return fmt.Sprint(got), got == n
		})
	})
}

// wait lets time pass, to verify that nothing happens in the meantime.
func wait(duration time.Duration) features.Func {
	return step(func(ctx context.Context, _ *testing.T) {
		select {
		case <-time.After(duration):
		case <-ctx.Done():
		}
	})
}
