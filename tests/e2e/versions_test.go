package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// bugReport is the manifest of the bug report in docs/demo.md.
const bugReport = `
apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: my-mcp-server}
spec: {replicas: 3, image: my-image:latest}
`

// inVersion returns a manifest in another version of the API.
func inVersion(version, manifest string) string {
	return strings.Replace(manifest, "toolhive.stacklok.dev/v1beta1", "toolhive.stacklok.dev/"+version, 1)
}

// TestTheManifestOfTheBugReport verifies that the manifest applies as it is.
func TestTheManifestOfTheBugReport(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "demo.md"))
	must(t, err)
	if !strings.Contains(string(page), strings.ReplaceAll(strings.TrimSpace(bugReport), "\n", "\n    ")) {
		t.Error("docs/demo.md has another manifest")
	}
	testEnv.Test(t, feature("the manifest of the bug report").
		Assess("is applied", all(apply(bugReport), eventuallyPrints("3", "statefulset/my-mcp-server", ".spec.replicas"))).
		Assess("and keeps its image", printed([]string{"my-image:latest"}, "get", "mcpserver", "my-mcp-server", "-o", "yaml")).
		Feature())
}

// TestOneObjectThroughBothVersions verifies that the owner of a field does not depend on the version that it was applied with.
func TestOneObjectThroughBothVersions(t *testing.T) {
	managers := func(want int) features.Func {
		return step(func(ctx context.Context, t *testing.T) {
			got := 0
			for _, entry := range mcpServer(ctx, t).ManagedFields {
				if entry.Manager == "kubectl" && entry.Operation == metav1.ManagedFieldsOperationApply {
					got++
				}
			}
			if got != want {
				t.Errorf("kubectl has %d entries in managedFields, want %d", got, want)
			}
		})
	}
	testEnv.Test(t, feature("one object").
		Assess("is declared through v1alpha1", all(apply(inVersion("v1alpha1", declared(3))), scaleIs(3), ownerIs("MCPServer"))).
		Assess("and released through v1beta1", holds(3, apply(inVersion("v1beta1", undeclared)), passesAreForced(2),
			operatorDoesNotOwnTheScale(), eventuallyPrints("", "mcpserver/web", ".spec.replicas"), managers(1))).
		Assess("declared through v1beta1", all(apply(inVersion("v1beta1", declared(2))), scaleIs(2))).
		Assess("and another number through v1alpha1, without a conflict", all(applyAs("kubectl", inVersion("v1alpha1", declared(4))), scaleIs(4), managers(1))).
		Assess("is read in both versions", all(
			printed([]string{"toolhive.stacklok.dev/v1alpha1"}, "get", "mcpservers.v1alpha1.toolhive.stacklok.dev", "web", "-o", "yaml"),
			printed([]string{"toolhive.stacklok.dev/v1beta1"}, "get", "mcpservers.toolhive.stacklok.dev", "web", "-o", "yaml"))).
		Feature())
}

const crdName = "mcpservers.toolhive.stacklok.dev"

// TestInstallingOverTheCRDOfAnotherOperator verifies that the CRD replaces one that has stored objects in both versions, and that these
// objects stay readable.
func TestInstallingOverTheCRDOfAnotherOperator(t *testing.T) {
	stored := func(name, version string) string {
		return fmt.Sprintf("{apiVersion: toolhive.stacklok.dev/%s, kind: MCPServer, metadata: {name: %s}, spec: {image: a, transport: streamable-http}}", version, name)
	}
	testEnv.Test(t, feature("the CRD of another operator").
		Assess("has stored objects in both versions", all(
			otherCRD("v1alpha1"), apply(stored("older", "v1alpha1")), otherCRD("v1beta1"), apply(stored("web", "v1beta1")), storedVersionsAre("v1alpha1", "v1beta1"))).
		Assess("is replaced", all(ourCRDIsInstalled(), storedVersionsAre("v1alpha1", "v1beta1"))).
		Assess("the objects are readable in both versions, and run", all(
			printed([]string{"older", "web"}, "get", "mcpservers.v1alpha1.toolhive.stacklok.dev"),
			printed([]string{"older", "web"}, "get", "mcpservers.v1beta1.toolhive.stacklok.dev"),
			eventuallyPrints("1", "statefulset/older", ".spec.replicas"), scaleIs(1))).
		Feature())
}

// otherCRD replaces the CRD until the feature ends with that of an operator that accepts any field, and stores objects in a version. See ReplaceCRD.
func otherCRD(storage string, served ...string) features.Func {
	return all(afterwards(ourCRDIsInstalled()), step(func(ctx context.Context, t *testing.T) { must(t, theCluster.ReplaceCRD(ctx, storage, served...)) }))
}

// ourCRDIsInstalled installs the CRD of this operator over another.
func ourCRDIsInstalled() features.Func {
	return clusterKubectl("apply", "--server-side", "--force-conflicts", "-k", "deploy/crd") // kubectl runs in the root of the repository
}

// storedVersionsAre waits until the CRD says in which versions objects are stored.
func storedVersionsAre(want ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, fmt.Sprintf("the stored versions to be %v", want), func(ctx context.Context) (string, bool) {
			definition := &unstructured.Unstructured{}
			definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
			must(t, theCluster.Client.Get(ctx, client.ObjectKey{Name: crdName}, definition))
			versions, _, err := unstructured.NestedStringSlice(definition.Object, "status", "storedVersions")
			must(t, err)
			return fmt.Sprint(versions), containsAll(fmt.Sprint(versions), want)
		})
	})
}
