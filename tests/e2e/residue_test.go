package e2e

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestWhatOthersHaveAppliedTooIsNamedWhenItIsDropped: a field that the MCPServer drops stays if another manager owns it too. This
// matters for security, because pods may still get a dropped token.
func TestWhatOthersHaveAppliedTooIsNamedWhenItIsDropped(t *testing.T) {
	const env = `.spec.template.spec.containers[0].env[?(@.name=="TOKEN")].name`
	testEnv.Test(t, feature("a co-owner").
		Setup(all(apply(guarded(token)), scaleIs(3), wholeStatefulSetIsAppliedBy("backup"))).
		Assess("the dropped field stays, and a condition names the manager", all(apply(guarded("")), passesAreForced(1),
			conditionSays(v1beta1.ConditionFieldConflict, "FieldKept", `env[name="TOKEN"]`, `StatefulSet "web"`, `"backup"`),
			eventSays("FieldKept", "TOKEN", "backup"), eventuallyPrints("TOKEN", "statefulset/web", env))).
		Assess("the condition stays after a restart of the operator", all(operatorRestarts(), passesAreForced(2),
			conditionSays(v1beta1.ConditionFieldConflict, "FieldKept", `env[name="TOKEN"]`, `"backup"`))).
		Assess("the field is removed when the manager gives it up", all(applyForcedAs("backup", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, labels: {kept: by-backup}}}`),
			eventuallyPrints("", "statefulset/web", env), passesAreForced(1), conditionIsGone(v1beta1.ConditionFieldConflict), scaleIs(3))).
		Feature())
}

// wholeStatefulSetIsAppliedBy applies a copy of the StatefulSet, as the restore of a backup does.
func wholeStatefulSetIsAppliedBy(manager string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		live := statefulSet(ctx, t)
		copied := &appsv1.StatefulSet{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
			ObjectMeta: metav1.ObjectMeta{Namespace: live.Namespace, Name: live.Name, Labels: live.Labels}, Spec: live.Spec,
		}
		//nolint:staticcheck // a backup knows no apply configurations
		must(t, theCluster.Client.Patch(ctx, copied, client.Apply, client.FieldOwner(manager), client.ForceOwnership))
	})
}
