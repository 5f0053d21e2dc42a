package e2e

import (
	"context"
	"regexp"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestAStatefulSetThatLostItsOwnerReference verifies that the message never advises to delete a StatefulSet that the operator created, and that
// its command restores the owner reference, even if managedFields were removed as well.
func TestAStatefulSetThatLostItsOwnerReference(t *testing.T) {
	for name, patch := range map[string]string{
		"the owner reference":                       `{"metadata":{"ownerReferences":null}}`,
		"the owner reference and the managedFields": `{"metadata":{"ownerReferences":null,"managedFields":[{}]}}`,
	} {
		var pods []types.UID
		testEnv.Test(t, feature("removed: "+name).
			Setup(all(apply(declared(2)), scaleIs(2), podsAreRemembered(&pods))).
			Assess("the message has a command that restores it, and the pods stay", holds(2,
				kubectl("patch", "statefulset", "web", "--type=merge", "-p", patch),
				conditionSays(v1beta1.ConditionStalled, "NotControlled", "Its owner reference was removed", "kubectl"),
				ownerReferencesAreRestored(),
				conditionIsGone(v1beta1.ConditionStalled), scaleIs(2), operatorOwnsTheScale(),
				podsAreStill(&pods))).
			Feature())
	}
}

// TestARestoreFromABackupKeepsAYieldedScale: the children were restored first, as a backup tool does it, without managedFields and with the
// owner reference to an MCPServer that does not exist, which the tool removes. Then the MCPServer is restored with another UID and without a
// status. Its declaration was carried out long ago, and must not be carried out again.
func TestARestoreFromABackupKeepsAYieldedScale(t *testing.T) {
	testEnv.Test(t, feature("restored from a backup").
		Setup(all(apply(declared(3)), scaleIs(3), kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5),
			operatorStops(), kubectl("delete", "mcpserver", server, "--cascade=orphan"),
			eventuallyPrints("", "statefulset/web", ".metadata.ownerReferences"),
			eachChild(func(child string) features.Func {
				return kubectl("patch", child, "--type=merge", "-p", `{"metadata":{"managedFields":[{}]}}`)
			}))).
		Assess("the message has the commands that connect the children, and the scale stays", holds(5,
			apply(declared(3)), operatorStarts(), conditionSays(v1beta1.ConditionStalled, "NotControlled", "Its owner reference was removed"),
			ownerReferencesAreRestored(), conditionIsGone(v1beta1.ConditionStalled), scaleIs(5),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded", "to 5"), passesAreForced(2))).
		Feature())
}

// ownerReferencesAreRestored runs the commands in the message of the condition Stalled.
func ownerReferencesAreRestored() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		message := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionStalled).Message
		commands := regexp.MustCompile(`kubectl -n (\S+) patch (\S+) (\S+) --type=merge -p '([^']+)'`).FindAllStringSubmatch(message, -1)
		if len(commands) == 0 {
			t.Fatalf("no command in %q", message)
		}
		for _, command := range commands {
			clusterKubectl("-n", command[1], "patch", command[2], command[3], "--type=merge", "-p", command[4])(ctx, t, nil)
		}
	})
}
