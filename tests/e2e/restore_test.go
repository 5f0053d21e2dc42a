package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// TestAStatefulSetThatComesBackKeepsItsScale covers each way of deletion, with the operator running and stopped.
func TestAStatefulSetThatComesBackKeepsItsScale(t *testing.T) {
	for _, propagation := range []string{"background", "foreground", "orphan"} {
		for _, scale := range []int32{0, 1, 7} {
			test := feature(fmt.Sprintf("deleted with --cascade=%s at %d", propagation, scale))
			var before []types.UID
			test = test.
				Assess("scaled", all(apply(undeclared), scaleIs(1),
					kubectl("scale", "statefulset", server, fmt.Sprintf("--replicas=%d", scale)), scaleIs(scale),
					podsAreRemembered(&before))).
				Assess("the scale never changes", holds(scale,
					kubectl("delete", "statefulset", server, "--cascade="+propagation), childrenAreThere(), scaleIs(scale))).
				Assess("the scale does not change while the operator is stopped", holds(scale,
					operatorStops(), kubectl("delete", "statefulset", server, "--cascade="+propagation), operatorStarts(),
					childrenAreThere(), scaleIs(scale), passesAreForced(1))).
				Assess("the operator does not own the scale", operatorDoesNotOwnTheScale())
			if propagation == "orphan" {
				test = test.Assess("the pods are adopted and none is deleted", podsAreStill(&before))
			}
			testEnv.Test(t, test.Feature())
		}
	}
}

// TestAYieldedScaleComesBackYielded verifies that a recreated StatefulSet keeps a yielded scale. The declaration does not count again.
func TestAYieldedScaleComesBackYielded(t *testing.T) {
	testEnv.Test(t, feature("declared 3, scaled to 5, deleted").
		Assess("yielded", all(apply(declared(3)), scaleIs(3),
			kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5))).
		Assess("is recreated at 5", holds(5,
			kubectl("delete", "statefulset", server, "--cascade=orphan"), childrenAreThere(), scaleIs(5), passesAreForced(2))).
		Assess("with Force, it is recreated at the declared scale", all(
			apply(declaredWith(3, "Force")), scaleIs(3),
			holds(3, kubectl("delete", "statefulset", server, "--cascade=orphan"), childrenAreThere(), scaleIs(3)))).
		Feature())
}

// TestAnMCPServerRestoredWithItsStatusKeepsItsScale verifies that the order does not matter if a backup tool also restores the status, which it
// writes after it has created the object: the children follow the status, and a declaration that was yielded is not carried out again.
func TestAnMCPServerRestoredWithItsStatusKeepsItsScale(t *testing.T) {
	var backup []byte
	testEnv.Test(t, feature("restored without its children").
		Setup(all(apply(declared(3)), scaleIs(3), kubectl("scale", "statefulset", server, "--replicas=5"), scaleIs(5),
			conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded"), step(func(ctx context.Context, t *testing.T) {
				content, err := json.Marshal(map[string]any{"status": mcpServer(ctx, t).Status})
				must(t, err)
				backup = content
			}),
			operatorStops(), kubectl("delete", "mcpserver", server, "--cascade=foreground"))).
		Assess("it has the scale of the backup", all(apply(declared(3)), step(func(ctx context.Context, t *testing.T) {
			kubectl("patch", "mcpserver", server, "--subresource=status", "--type=merge", "-p", string(backup))(ctx, t, nil)
		}), operatorStarts(), childrenAreThere(), scaleIs(5), conditionSays(v1beta1.ConditionScaleConflict, "ScaleYielded", "to 5"), passesAreForced(2), scaleIs(5))).
		Feature())
}

// podsAreRemembered records the UIDs of the pods for podsAreStill.
func podsAreRemembered(pods *[]types.UID) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		*pods = podUIDs(ctx, t)
	})
}

// podsAreStill fails unless the pods are those that were remembered.
func podsAreStill(pods *[]types.UID) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if now := podUIDs(ctx, t); !slices.Equal(now, *pods) {
			t.Errorf("the pods were %v and are %v", *pods, now)
		}
	})
}

// podUIDs returns the UIDs of the pods in the namespace of the test, sorted.
func podUIDs(ctx context.Context, t *testing.T) []types.UID {
	t.Helper()
	var pods corev1.PodList
	must(t, theCluster.Client.List(ctx, &pods, client.InNamespace(in(ctx))))
	uids := []types.UID{}
	for _, pod := range pods.Items {
		uids = append(uids, pod.UID)
	}
	slices.Sort(uids)
	return uids
}
