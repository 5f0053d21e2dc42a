package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// predecessor is the field manager of the operator that managed the MCPServers before.
const predecessor = "toolhive-container-manager"

// TestTakingOverFromAnotherOperator verifies that the objects that another operator created for an MCPServer are adopted in place.
func TestTakingOverFromAnotherOperator(t *testing.T) {
	var set, service types.UID
	var pods []types.UID
	runs := all(operatorStops(), apply(undeclared), step(func(ctx context.Context, t *testing.T) {
		makeAsPredecessor(ctx, t)
		all(kubectl("scale", "statefulset", server, "--replicas=3"), podsAreReady(3))(ctx, t, nil)
		set, service = statefulSet(ctx, t).UID, get(ctx, t, "mcp-web-proxy", &corev1.Service{}).UID
		pods = podUIDs(ctx, t)
	}))
	adopted := all(scaleIs(3), operatorDoesNotOwnTheScale(), step(func(ctx context.Context, t *testing.T) {
		if now := statefulSet(ctx, t).UID; now != set {
			t.Errorf("the StatefulSet was %s and is %s", set, now)
		}
		if now := get(ctx, t, "mcp-web-proxy", &corev1.Service{}).UID; now != service {
			t.Errorf("the Service was %s and is %s", service, now)
		}
		for _, object := range []client.Object{
			statefulSet(ctx, t), get(ctx, t, "mcp-web-proxy", &corev1.Service{}), get(ctx, t, "mcp-web-headless", &corev1.Service{}),
		} {
			for _, entry := range object.GetManagedFields() {
				if entry.Manager == predecessor {
					t.Errorf("%T %s still has fields that %s owns", object, object.GetName(), predecessor)
				}
			}
		}
	}))

	testEnv.Test(t, feature("with the same template").
		Assess("the server runs", runs).
		Assess("is adopted at its scale", holds(3, operatorStarts(), adopted, passesAreForced(3))).
		Assess("no pod restarts", podsAreStill(&pods)).
		Assess("immutable fields stay", all(
			eventuallyPrints(server, "statefulset/web", ".spec.serviceName"),
			eventuallyPrints("OrderedReady", "statefulset/web", ".spec.podManagementPolicy"),
			eventuallyPrints(`{"app":"web"}`, "statefulset/web", ".spec.selector.matchLabels"),
			eventuallyPrints(`{"app":"web"}`, "service/mcp-web-proxy", ".spec.selector"),
			eventuallyPrints("app=web", "mcpserver/web", ".status.selector"))).
		Assess("fields that only the predecessor owned are removed", eventuallyPrints("", "statefulset/web", ".metadata.annotations.old")).
		Assess("fields of other managers stay", eventuallyPrints("theirs", "statefulset/web", ".metadata.annotations.other")).
		Assess("forced passes write nothing", writesNothing(passesAreForced(3))).
		Feature())

	testEnv.Test(t, feature("with a different template").
		Assess("the server runs", all(operatorStops(), apply(undeclared), step(func(ctx context.Context, t *testing.T) {
			_, err := theCluster.KubectlWithInput(ctx, fmt.Sprintf(predecessorsManifest, mcpServer(ctx, t).UID),
				"create", "--field-manager="+predecessor, "-n", in(ctx), "-f", "-")
			must(t, err)
			all(kubectl("annotate", "statefulset", server, "other=theirs"),
				kubectl("scale", "statefulset", server, "--replicas=3"), podsAreReady(3))(ctx, t, nil)
			set, service = statefulSet(ctx, t).UID, get(ctx, t, "mcp-web-proxy", &corev1.Service{}).UID
		}))).
		Assess("the preview shows the difference and writes nothing", step(func(ctx context.Context, t *testing.T) {
			before := statefulSet(ctx, t).ResourceVersion
			out := preview(ctx, t)
			for _, line := range []string{
				"--- StatefulSet/web as it is", "-        - name: OLD", "-    old: \"1\"", "+++ PodDisruptionBudget/mcp-web as it would be",
			} {
				if !strings.Contains(out, line) {
					t.Errorf("the preview has no line %q:\n%s", line, out)
				}
			}
			if changed := regexp.MustCompile(`(?m)^[-+] +(replicas|other):.*$`).FindString(out); changed != "" {
				t.Errorf("the preview changes %q:\n%s", changed, out)
			}
			if after := statefulSet(ctx, t).ResourceVersion; after != before {
				t.Errorf("the preview wrote: resourceVersion was %s and is %s", before, after)
			}
		})).
		Assess("is adopted at its scale, and rolls out the new template", holds(3, operatorStarts(), adopted,
			eventuallyPrints("MCP_TRANSPORT MCP_PORT FASTMCP_PORT MCP_HOST FASTMCP_HOST", "pod/web-0", ".spec.containers[*].env[*].name"),
			eventuallyPrints(`{"app":"web"}`, "service/mcp-web-proxy", ".spec.selector"))).
		Assess("after an orphaning deletion, it is recreated with the same selector and adopts the pods", all(
			podsAreRemembered(&pods),
			holds(3, kubectl("delete", "statefulset", server, "--cascade=orphan"), childrenAreThere(), scaleIs(3),
				eventuallyPrints(`{"app":"web"}`, "statefulset/web", ".spec.selector.matchLabels")),
			podsAreStill(&pods))).
		Feature())
}

// TestTheMessageHasTheWayOverFromToolHive: versions of ToolHive's operator from before August 2026 set no owner reference on the StatefulSet, and
// make the StatefulSet the controller of the headless Service. The commands in the message are all that is needed.
func TestTheMessageHasTheWayOverFromToolHive(t *testing.T) {
	var pods []types.UID
	testEnv.Test(t, feature("a StatefulSet without an owner").
		Setup(all(operatorStops(), apply(undeclared), step(func(ctx context.Context, t *testing.T) {
			makeAsPredecessor(ctx, t)
			set := statefulSet(ctx, t)
			all(kubectl("patch", "statefulset", server, "--type=merge", "-p", `{"metadata":{"ownerReferences":null}}`, "--field-manager="+predecessor),
				kubectl("patch", "service", "mcp-web-headless", "--type=merge", "--field-manager="+predecessor, "-p", fmt.Sprintf(
					`{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","uid":%q,"controller":true}]}}`, set.UID)),
				kubectl("scale", "statefulset", server, "--replicas=3"), podsAreReady(3))(ctx, t, nil)
			pods = podUIDs(ctx, t)
		}), operatorStarts())).
		Assess("is not deleted, and the message names ToolHive and the commands", conditionSays(v1beta1.ConditionStalled, "NotControlled",
			"ToolHive's operator created it", `StatefulSet "web"`, `Service "mcp-web-headless"`, `delete its Deployment "web"`)).
		Assess("after the commands, the server runs at its scale, and no pod has restarted", holds(3,
			ownerReferencesAreRestored(), conditionIsGone(v1beta1.ConditionStalled), scaleIs(3), operatorDoesNotOwnTheScale(), passesAreForced(2),
			podsAreStill(&pods))).
		Feature())
}

// predecessorsManifest contains the objects that another operator created for the MCPServer with the given UID.
const predecessorsManifest = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: web
  labels: {app: web, toolhive: "true", toolhive-name: web}
  annotations: {old: "1"}
  ownerReferences: [{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: %[1]s, controller: true, blockOwnerDeletion: true}]
spec:
  replicas: 1
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, toolhive: "true"}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: mcp
        image: registry.example/server:1
        stdin: true
        env: [{name: OLD, value: "1"}]
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata:
  name: mcp-web-proxy
  ownerReferences: [{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: %[1]s, controller: true, blockOwnerDeletion: true}]
spec: {selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata:
  name: mcp-web-headless
  ownerReferences: [{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: %[1]s, controller: true, blockOwnerDeletion: true}]
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080, targetPort: 8080}]}
`

// makeAsPredecessor creates a StatefulSet and Services as the previous operator did: with Update operations, a different selector
// and serviceName, and a controller reference to the MCPServer.
func makeAsPredecessor(ctx context.Context, t *testing.T) {
	t.Helper()
	mcp := mcpServer(ctx, t)
	selector := map[string]string{"app": server}
	fixed := applyconfigs.Fixed{
		Selector: metav1ac.LabelSelector().WithMatchLabels(selector), PodLabels: selector,
		ServiceName: server, PodManagementPolicy: appsv1.OrderedReadyPodManagement,
	}
	set, err := applyconfigs.StatefulSet(mcp, applyconfigs.Scale{}, fixed, applyconfigs.Cluster{}, nil)
	must(t, err)
	set.WithAnnotations(map[string]string{"old": "1"})
	for _, object := range []any{
		set, applyconfigs.ClientService(mcp, fixed, false), applyconfigs.HeadlessService(mcp, fixed), applyconfigs.ServiceAccount(mcp),
	} {
		_, err := theCluster.KubectlWithInput(ctx, manifest(t, object), "create", "--field-manager="+predecessor, "-n", in(ctx), "-f", "-")
		must(t, err)
	}
	kubectl("annotate", "statefulset", server, "other=theirs")(ctx, t, nil)
}
