package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
)

// guarded returns an MCPServer with the given environment variables, such as token.
func guarded(env string) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  replicas: 3
  env: [%s]
`, env)
}

const token = `{name: TOKEN, value: secret}`

// TestNothingOutlivesItsDeclarationWhenManagedFieldsAreEmptied: when managedFields are emptied, the API server would record all existing
// fields for a manager "before-first-apply", which would own them forever. The test verifies that this manager does not appear, that
// the scale stays, and that the fields of other managers stay.
func TestNothingOutlivesItsDeclarationWhenManagedFieldsAreEmptied(t *testing.T) {
	for name, empty := range map[string]string{
		"an empty list":       `{"metadata":{"managedFields":[]}}`,
		"one of nothing":      `{"metadata":{"managedFields":[{}]}}`,
		"with another change": `{"metadata":{"managedFields":[{}],"annotations":{"other":"stays"}}}`,
	} {
		testEnv.Test(t, feature("managedFields emptied: "+name).
			Setup(all(apply(guarded(token)), scaleIs(3), operatorOwnsTheScale())).
			Assess("the operator repairs every child and the scale stays", holds(3, eachChild(func(child string) features.Func {
				return all(kubectl("patch", child, "--type=merge", "-p", empty), isOwnedByTheOperatorAgain(child))
			}), scaleIs(3), operatorOwnsTheScale())).
			Assess("a variable that is dropped afterwards is removed", all(
				apply(guarded("")),
				eventuallyPrints("", "statefulset/web", `.spec.template.spec.containers[0].env[?(@.name=="TOKEN")].name`), scaleIs(3))).
			Feature())
	}
}

// TestAnOwnerThatTheAPIServerHasInventedIsRemoved: an earlier version of the operator, or another manager's apply, can have created
// the manager "before-first-apply".
func TestAnOwnerThatTheAPIServerHasInventedIsRemoved(t *testing.T) {
	testEnv.Test(t, feature("before-first-apply").
		Setup(all(apply(undeclared), scaleIs(1))).
		Assess("is removed from the managers", all(
			operatorStops(), kubectl("patch", "statefulset", "web", "--type=merge", "-p", `{"metadata":{"managedFields":[{}]}}`),
			applyAs("somebody", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, annotations: {a: b}}}`),
			managersOf("statefulset/web", func(managers []string) bool { return slices.Contains(managers, "before-first-apply") }),
			operatorStarts(), isOwnedByTheOperatorAgain("statefulset/web"),
			eventuallyPrints("b", "statefulset/web", ".metadata.annotations.a"))).
		Feature())
}

// eachChild runs a step for each child of the MCPServer.
func eachChild(do func(child string) features.Func) features.Func {
	var steps []features.Func
	for _, child := range []string{
		"statefulset/web", "service/mcp-web-proxy", "service/mcp-web-headless", "serviceaccount/mcp-web", "poddisruptionbudget/mcp-web",
	} {
		steps = append(steps, do(child))
	}
	return all(steps...)
}

func isOwnedByTheOperatorAgain(child string) features.Func {
	return managersOf(child, func(managers []string) bool {
		return slices.Contains(managers, applyconfigs.FieldManager) && !slices.Contains(managers, "before-first-apply")
	})
}

// managersOf waits until the field managers of a child meet a condition.
func managersOf(child string, are func([]string) bool) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		kind, name, _ := strings.Cut(child, "/")
		objects := map[string]client.Object{
			"statefulset": &appsv1.StatefulSet{}, "service": &corev1.Service{}, "serviceaccount": &corev1.ServiceAccount{},
			"poddisruptionbudget": &policyv1.PodDisruptionBudget{},
		}
		eventually(ctx, t, "the managers of "+child, func(ctx context.Context) (string, bool) {
			var managers []string
			for _, entry := range get(ctx, t, name, objects[kind]).GetManagedFields() {
				managers = append(managers, entry.Manager)
			}
			return fmt.Sprint(managers), are(managers)
		})
	})
}
