package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestResumeGivesTheFieldsBack verifies that the field managers from before hold own their fields again, and can change them without a conflict.
func TestResumeGivesTheFieldsBack(t *testing.T) {
	const plugins = "kubectl-mcpserver/Update"
	testEnv.Test(t, feature("a declared number").
		Setup(all(apply(declared(3)), scaleIs(3), declarationIsOwnedBy("kubectl/Apply"))).
		Assess("hold names the source that can take it back", all(plugin(exitOK, []string{`field manager "kubectl" (Apply) has replicas: its next apply can take the number back`}, "hold", server, "--replicas=5"),
			scaleIs(5), declarationIsOwnedBy(plugins))).
		Assess("resume keeps the number, gives the fields back, and says what comes next", holds(5,
			plugin(exitOK, []string{"the scale is 5 and belongs to this MCPServer", "spec.replicas was 3 before. It stays 5", `The next apply of "kubectl" declares the number of its own manifest`,
				`.spec.replicas of MCPServer "web" belongs to "kubectl" again`, `.spec.replicasConflictPolicy of MCPServer "web" belongs to "kubectl" again`}, "resume", server),
			declarationIsOwnedBy("kubectl/Apply"), operatorOwnsTheScale(), passesAreForced(2))).
		Assess("the owner changes both without a conflict", all(applyAs("kubectl", declared(3)), scaleIs(3))).
		Feature())

	testEnv.Test(t, feature("a declared number that hold does not change").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("stays with its owner", holds(3, plugin(exitOK, nil, "hold", server), plugin(exitOK, nil, "resume", server), declarationIsOwnedBy("kubectl/Apply"),
			applyAs("kubectl", declared(3)))).
		Feature())

	testEnv.Test(t, feature("a scale that another client applies").
		Setup(all(apply(undeclared), childrenAreThere(), applyForcedAs("argocd-controller", threeReplicas), scaleIs(3), ownerIs("argocd-controller"))).
		Assess("is held", all(
			plugin(exitOK, []string{`field manager "argocd-controller" applies the scale of the StatefulSet`}, "hold", server, "--replicas=4"), scaleIs(4), operatorOwnsTheScale())).
		Assess("belongs to it again", holds(4,
			plugin(exitOK, []string{`belongs to "argocd-controller"`, `.spec.replicas of StatefulSet "web" belongs to "argocd-controller" again`}, "resume", server),
			scaleIsOwnedBy("argocd-controller/Apply"), ownerIs("argocd-controller"), passesAreForced(2))).
		Assess("which changes it without a conflict", all(applyAs("argocd-controller", strings.ReplaceAll(threeReplicas, "replicas: 3", "replicas: 2")), scaleIs(2))).
		Feature())

	testEnv.Test(t, feature("a number that somebody else has declared since").
		Setup(all(apply(declared(3)), scaleIs(3))).
		Assess("is not given back, and the reason is said", all(plugin(exitOK, nil, "hold", server, "--replicas=2"), scaleIs(2),
			applyForcedAs("kustomize-controller", "{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, metadata: {name: web}, spec: {replicas: 2}}"),
			holds(2, plugin(exitOK, []string{`.spec.replicas of MCPServer "web" now belongs to "kustomize-controller", and so it was not given back to "kubectl"`}, "resume", server)))).
		Feature())
}

const scaledObjectCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scaledobjects.keda.sh}
spec:
  group: keda.sh
  scope: Namespaced
  names: {kind: ScaledObject, plural: scaledobjects, singular: scaledobject}
  versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// TestThePluginSeesAScaledObjectThatHasNoAutoscalerYet: KEDA creates the HorizontalPodAutoscaler later, and deletes it while the ScaledObject is paused. This
// cluster has KEDA's API without KEDA.
func TestThePluginSeesAScaledObjectThatHasNoAutoscalerYet(t *testing.T) {
	testEnv.Test(t, feature("a ScaledObject").
		Setup(all(afterwards(clusterKubectl("delete", "--ignore-not-found", "crd", "scaledobjects.keda.sh")), clusterApply(scaledObjectCRD),
			step(func(ctx context.Context, t *testing.T) { must(t, theCluster.WaitForCRD(ctx, "scaledobjects.keda.sh")) }),
			apply(declared(2)), scaleIs(2), apply(`
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: jobs}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: web}, triggers: []}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: of-a-deployment}
spec: {scaleTargetRef: {name: web}, triggers: []}
`))).
		Assess("is explained", all(plugin(exitOK, []string{"ScaledObject/jobs of the StatefulSet, without a HorizontalPodAutoscaler"}, "explain", server),
			pluginLacks("", []string{"of-a-deployment"}, "explain", server))).
		Assess("would fight with hold: the command refuses, with the command that pauses it", step(func(ctx context.Context, t *testing.T) {
			code, _, stderr := runPlugin(ctx, t, "", "hold", server)
			want := fmt.Sprintf("kubectl -n %s annotate scaledobject jobs autoscaling.keda.sh/paused=true", in(ctx))
			if code != exitError || !containsAll(stderr, []string{"ScaledObject/jobs", "would fight", want}) {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			_, err := theCluster.Kubectl(ctx, strings.Fields(want)[1:]...)
			must(t, err)
		})).
		Assess("paused, it does not", holds(2, plugin(exitOK, nil, "hold", server), plugin(exitOK, []string{"ScaledObject/jobs is still paused"}, "resume", server))).
		Assess("gets the scale", all(kubectl("annotate", "scaledobject", "jobs", "autoscaling.keda.sh/paused-"),
			holds(2, plugin(exitOK, []string{"ScaledObject/jobs has no HorizontalPodAutoscaler yet"}, "handover", server, "--to=hpa"), operatorDoesNotOwnTheScale()))).
		Feature())
}
