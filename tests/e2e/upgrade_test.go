package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestAnUpgradeOfTheOperatorRestartsNoPod starts with a StatefulSet of an earlier operator. Its pod template has no FASTMCP_PORT
// variable, and its revision is 0.
func TestAnUpgradeOfTheOperatorRestartsNoPod(t *testing.T) {
	const fastmcp = `.spec.template.spec.containers[0].env[?(@.name=="FASTMCP_PORT")].value`
	var pods []types.UID
	podsAre := func(same bool) features.Func {
		return step(func(ctx context.Context, t *testing.T) {
			t.Helper()
			eventually(ctx, t, fmt.Sprintf("the same pods: %t", same), func(ctx context.Context) (string, bool) {
				now := podUIDs(ctx, t)
				slices.Sort(now)
				return fmt.Sprint(now), len(now) == len(pods) && slices.Equal(now, pods) == same
			})
		})
	}
	update := kubectl("annotate", "mcpserver", "web", fmt.Sprintf("%s=%d", v1beta1.UpdatePodTemplateAnnotation, applyconfigs.TemplateRevision))
	running := all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs(2))
	suspend := func(is bool) features.Func {
		return kubectl("patch", "mcpserver", "web", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"suspend":%t}}`, is))
	}
	upgraded := all(operatorStops(), anEarlierOperatorHasApplied(), operatorStarts(), podsAreReady(2), podsAreRemembered(&pods))
	old := all(running, upgraded)
	testEnv.Test(t, feature("an upgrade while the MCPServer is suspended").
		Setup(all(running, suspend(true), conditionSays(v1beta1.ConditionSuspended, "Suspended"), upgraded)).
		Assess("restarts no pod when it is resumed", all(suspend(false), conditionIsGone(v1beta1.ConditionSuspended),
			conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"), passesAreForced(2), podsAre(true),
			eventuallyPrints("", "statefulset/web", fastmcp))).
		Feature())
	for name, row := range map[string]struct {
		change features.Func
		same   bool
	}{
		"a change that does not reach the pods": {kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"minReadySeconds":1}}`), true},
		"kubectl scale":                         {kubectl("scale", "mcpserver", "web", "--replicas=2"), true},
		"a change that reaches the pods":        {imageChanges("registry.example/server:2"), false},
		"being asked":                           {update, false},
		"a field that somebody has changed": {kubectl("patch", "statefulset", "web", "--type=strategic",
			"-p", `{"spec":{"template":{"spec":{"containers":[{"name":"mcp","image":"registry.example/other:1"}]}}}}`), false},
	} {
		testEnv.Test(t, feature("an upgrade, and "+name).
			Setup(all(old, conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision", "revision 0", "FASTMCP_PORT", v1beta1.UpdatePodTemplateAnnotation))).
			Assess("restarts pods only for a reason", all(passesAreForced(2), podsAre(true), eventuallyPrints("", "statefulset/web", fastmcp),
				row.change, passesAreForced(2), podsAre(row.same))).
			Assess("gets the new pod template only then", func() features.Func {
				if row.same {
					return all(eventuallyPrints("", "statefulset/web", fastmcp), conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision"))
				}
				return all(eventuallyPrints("8080", "statefulset/web", fastmcp), conditionIsGone(v1beta1.ConditionUpdateAvailable), scaleIs(2))
			}()).
			Feature())
	}
}

// anEarlierOperatorHasApplied applies the fields that the operator owns in the StatefulSet, without those that earlier versions did
// not set.
func anEarlierOperatorHasApplied() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		owned, err := appsv1ac.ExtractStatefulSet(statefulSet(ctx, t), applyconfigs.FieldManager)
		must(t, err)
		container := &owned.Spec.Template.Spec.Containers[0]
		container.Env = slices.DeleteFunc(container.Env, func(variable corev1ac.EnvVarApplyConfiguration) bool { return *variable.Name == "FASTMCP_PORT" })
		record, found := applyconfigs.TemplateRecordIn(statefulSet(ctx, t).Annotations, v1beta1.PodTemplateAnnotation)
		if !found {
			t.Fatal("the StatefulSet has no record of its pod template")
		}
		record.Revision = 0
		record.Digest, err = applyconfigs.TemplateDigest(owned.Spec.Template)
		must(t, err)
		owned.Annotations[v1beta1.PodTemplateAnnotation] = record.String()
		must(t, theCluster.Client.Apply(ctx, owned, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership))
		eventually(ctx, t, "the rollout", func(ctx context.Context) (string, bool) {
			set := statefulSet(ctx, t)
			return fmt.Sprint(set.Status), set.Status.ObservedGeneration == set.Generation && set.Status.UpdateRevision == set.Status.CurrentRevision &&
				set.Status.UpdatedReplicas == 2
		})
	})
}
