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
// A finalizer keeps the namespace until the operator has seen that the children are deleted: it hears nothing of the end of the namespace.
func TestAnMCPServerThatOutlivesItsNamespace(t *testing.T) {
	testEnv.Test(t, feature("an MCPServer without a namespace").
		Setup(all(apply(undeclared), scaleIs(1), apply(kept), noOtherNamespaceEnds())).
		Assess("its namespace is deleted while MCPServers are not served", all(
			afterwards(ourCRDIsInstalled()),
			clusterKubectl("patch", "crd", crdName, "--type=json", "-p",
				`[{"op": "replace", "path": "/spec/versions/0/served", "value": false}, {"op": "replace", "path": "/spec/versions/1/served", "value": false}]`),
			mcpServersAreNotServed(),
			namespace("delete", "--wait=false"),
			kubectl("wait", "--for=delete", "--timeout=60s", "statefulset/"+server, "pod/web-0"),
			kubectl("patch", "configmap", "kept", "--type=merge", "-p", `{"metadata": {"finalizers": null}}`),
			namespace("wait", "--for=delete", "--timeout=60s"),
			ourCRDIsInstalled())).
		Assess("the status says so", conditionSays(v1beta1.ConditionReconciling, "PassFailed", `namespaces "e2e-`, "not found")).
		Assess("it can be deleted", kubectl("delete", "mcpserver", server, "--dry-run=server")).
		Assess("it runs again when somebody creates the namespace", all(namespace("create"), scaleIs(1))).
		Feature())
}

const kept = `{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, finalizers: [example.com/kept]}}`

// namespace runs a command of kubectl for the namespace of the feature.
func namespace(command string, flags ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		clusterKubectl(append([]string{command, "namespace", in(ctx)}, flags...)...)(ctx, t, nil)
	})
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
