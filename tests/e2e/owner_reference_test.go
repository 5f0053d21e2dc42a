package e2e

import (
	"context"
	"regexp"
	"slices"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

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
			Setup(all(apply(declared(2)), scaleIs(2), step(func(ctx context.Context, t *testing.T) { pods = podUIDs(ctx, t) }))).
			Assess("the message has a command that restores it, and the pods stay", holds(2,
				kubectl("patch", "statefulset", "web", "--type=merge", "-p", patch),
				conditionSays(v1beta1.ConditionStalled, "NotControlled", "Its owner reference was removed", "kubectl"),
				step(func(ctx context.Context, t *testing.T) {
					message := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionStalled).Message
					command := regexp.MustCompile(`kubectl -n (\S+) patch statefulset web --type=merge -p '([^']+)'`).FindStringSubmatch(message)
					if command == nil {
						t.Fatalf("no command in %q", message)
					}
					clusterKubectl("-n", command[1], "patch", "statefulset", "web", "--type=merge", "-p", command[2])(ctx, t, nil)
				}),
				conditionIsGone(v1beta1.ConditionStalled), scaleIs(2), operatorOwnsTheScale(),
				step(func(ctx context.Context, t *testing.T) {
					if now := podUIDs(ctx, t); !slices.Equal(now, pods) {
						t.Errorf("the pods were %v and are %v", pods, now)
					}
				}))).
			Feature())
	}
}
