package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestAnMCPServerThatOutlivesItsNamespace verifies that the status of an MCPServer does not stay as it was when its namespace was there. If the API server
// does not serve MCPServers while the namespace controller empties a namespace, because somebody replaces the CRD, the controller finds nothing to delete.
func TestAnMCPServerThatOutlivesItsNamespace(t *testing.T) {
	testEnv.Test(t, feature("an MCPServer without a namespace").
		Setup(all(apply(undeclared), scaleIs(1), noOtherNamespaceEnds())).
		Assess("its namespace is deleted while MCPServers are not served", all(
			afterwards(ourCRDIsInstalled()),
			clusterKubectl("patch", "crd", crdName, "--type=json", "-p",
				`[{"op": "replace", "path": "/spec/versions/0/served", "value": false}, {"op": "replace", "path": "/spec/versions/1/served", "value": false}]`),
			mcpServersAreNotServed(),
			step(func(ctx context.Context, t *testing.T) {
				clusterKubectl("delete", "namespace", in(ctx), "--timeout=60s")(ctx, t, nil)
			}),
			ourCRDIsInstalled())).
		Assess("the status says so", conditionSays(v1beta1.ConditionReconciling, "PassFailed", `namespaces "e2e-`, "not found")).
		Assess("it can be deleted", kubectl("delete", "mcpserver", server, "--dry-run=server")).
		Assess("it runs again when somebody creates the namespace", all(
			step(func(ctx context.Context, t *testing.T) { clusterKubectl("create", "namespace", in(ctx))(ctx, t, nil) }), scaleIs(1))).
		Feature())
}

// noOtherNamespaceEnds waits until no namespace is being deleted. Its MCPServers would outlive it too.
func noOtherNamespaceEnds() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, "no namespace to be terminating", func(ctx context.Context) (string, bool) {
			all := &corev1.NamespaceList{}
			must(t, theCluster.Client.List(ctx, all))
			for _, namespace := range all.Items {
				if namespace.DeletionTimestamp != nil {
					return namespace.Name + " is terminating", false
				}
			}
			return fmt.Sprintf("%d namespaces", len(all.Items)), true
		})
	})
}

// mcpServersAreNotServed waits until the API server has no resource for MCPServers.
func mcpServersAreNotServed() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, "MCPServers not to be served", func(ctx context.Context) (string, bool) {
			err := theCluster.Client.List(ctx, &v1beta1.MCPServerList{})
			return fmt.Sprint(err), err != nil
		})
	})
}
