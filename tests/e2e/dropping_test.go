package e2e

import (
	"context"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWhatTheMCPServerDropsGoes verifies that fields that the MCPServer drops are removed from the children, and that fields of other
// managers stay.
func TestWhatTheMCPServerDropsGoes(t *testing.T) {
	const everythingToDrop = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  env: [{name: KEPT, value: "1"}, {name: DROPPED, value: "1"}]
  volumes: [{name: kept, mountPath: /kept, emptyDir: {}}, {name: dropped, mountPath: /dropped, emptyDir: {}}]
  permissionProfile: {name: none}
  resources: {requests: {cpu: 100m}}
  minReadySeconds: 1
  service: {type: NodePort}
  resourceOverrides: {statefulSet: {labels: {dropped: "1"}}, proxyService: {annotations: {dropped: "1"}}}
  podTemplateSpec: {spec: {nodeSelector: {kubernetes.io/os: linux}, priorityClassName: system-cluster-critical}}
`
	const dropped = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: "registry.example/server:1"
  env: [{name: KEPT, value: "1"}]
  volumes: [{name: kept, mountPath: /kept, emptyDir: {}}]
  podDisruptionBudget: {disabled: true}
  serviceAccount: default
`
	testEnv.Test(t, feature("what an MCPServer drops").
		Assess("exists, beside fields of other managers", all(
			apply(everythingToDrop), childrenAreAsBuilt(),
			kubectl("label", "statefulset", server, "theirs=1"),
			kubectl("annotate", "service", "mcp-web-proxy", "theirs=1"),
			kubectl("set", "env", "statefulset/web", "--containers=mcp", "THEIRS=1"))).
		Assess("is removed", all(
			apply(dropped), childrenAreAsBuilt(),
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST KEPT THEIRS", "statefulset/web", ".spec.template.spec.containers[0].env[*].name"),
			eventuallyPrints("kept", "statefulset/web", ".spec.template.spec.volumes[*].name"),
			eventuallyPrints("/kept", "statefulset/web", ".spec.template.spec.containers[0].volumeMounts[*].mountPath"),
			eventuallyPrints("", "statefulset/web", ".spec.template.spec.containers[0].resources.requests"),
			eventuallyPrints("", "statefulset/web", ".spec.template.spec.nodeSelector"),
			eventuallyPrints("", "statefulset/web", ".spec.template.spec.priorityClassName"),
			eventuallyPrints("", "statefulset/web", ".spec.minReadySeconds"),
			eventuallyPrints("", "statefulset/web", ".metadata.labels.dropped"),
			eventuallyPrints("", "service/mcp-web-proxy", ".metadata.annotations.dropped"),
			eventuallyPrints("ClusterIP", "service/mcp-web-proxy", ".spec.type"),
			eventuallyPrints("default", "statefulset/web", ".spec.template.spec.serviceAccountName"))).
		Assess("children that are no longer needed are deleted", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "three children", func(ctx context.Context) (string, bool) {
				there := strings.Join(existing(ctx, t), ", ")
				return there, there == "*v1.StatefulSet web, *v1.Service mcp-web-proxy, *v1.Service mcp-web-headless"
			})
		})).
		Assess("fields of other managers remain", all(
			eventuallyPrints("1", "statefulset/web", ".metadata.labels.theirs"),
			eventuallyPrints("1", "service/mcp-web-proxy", ".metadata.annotations.theirs"))).
		Feature())
}

// TestNothingOfSomeoneElseIsDeleted verifies that the operator ignores a foreign object with the name of a child that the MCPServer
// does not need. No condition reports the object.
func TestNothingOfSomeoneElseIsDeleted(t *testing.T) {
	objects := []client.Object{&networkingv1.NetworkPolicy{}, &policyv1.PodDisruptionBudget{}}
	testEnv.Test(t, feature("foreign objects with the names of unneeded children").
		Assess("exist", all(
			applyAs("another-team", `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: mcp-web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: other}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mcp-web}
spec: {podSelector: {matchLabels: {app: other}}}
`),
			step(func(ctx context.Context, t *testing.T) {
				eventually(ctx, t, "the disruption controller to update the budget", func(ctx context.Context) (string, bool) {
					budget := get(ctx, t, "mcp-web", &policyv1.PodDisruptionBudget{})
					return "", budget.Status.ObservedGeneration == budget.Generation
				})
				for _, object := range objects {
					get(ctx, t, "mcp-web", object)
				}
			}))).
		Assess("are not modified", all(
			apply(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", podDisruptionBudget: {disabled: true}}
`), scaleIs(1), passesAreForced(3), operatorRestarts(),
			step(func(ctx context.Context, t *testing.T) {
				for _, object := range objects {
					before := object.GetResourceVersion()
					if after := get(ctx, t, "mcp-web", object).GetResourceVersion(); after == "" || after != before {
						t.Errorf("%T: resourceVersion was %q and is %q", object, before, after)
					}
				}
			}))).
		Feature())
}
