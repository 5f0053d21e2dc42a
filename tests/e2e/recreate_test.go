package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestAChangeThatNeedsARecreate verifies that the condition contains the fields and the command, that other changes are still applied,
// and that the command preserves the pods, the volumes and the scale.
func TestAChangeThatNeedsARecreate(t *testing.T) {
	withClaim := func(ctx context.Context, image, size string) string {
		return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec:
  image: %q
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: %s, resources: {requests: {storage: %s}}}
  podTemplateSpec: {spec: {containers: [{name: mcp, volumeMounts: [{name: data, mountPath: /data}]}]}}
`, image, in(ctx), size)
	}
	var pods, claims []types.UID
	testEnv.Test(t, feature("volumeClaimTemplates").
		Assess("are created", step(func(ctx context.Context, t *testing.T) {
			// The cluster has no storage provisioner, so the test creates the volumes.
			for i := range 4 {
				volume := fmt.Sprintf("%s-%d", in(ctx), i)
				all(afterwards(clusterKubectl("delete", "--ignore-not-found", "--wait=false", "persistentvolume", volume)), clusterApply(fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s}
spec: {storageClassName: %[2]s, capacity: {storage: 2Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/%[1]s}}
`, volume, in(ctx))))(ctx, t, nil)
			}
			all(apply(withClaim(ctx, "registry.example/server:1", "1Gi")), scaleIs(1),
				kubectl("scale", "statefulset", server, "--replicas=3"), scaleIs(3))(ctx, t, nil)
			pods, claims = podUIDs(ctx, t), claimUIDs(ctx, t)
		})).
		Assess("have no label by which Argo CD may track them: an Application with the name of the MCPServer would prune them", step(
			func(ctx context.Context, t *testing.T) {
				var all, tracked corev1.PersistentVolumeClaimList
				must(t, theCluster.Client.List(ctx, &all, client.InNamespace(in(ctx)), client.MatchingLabels{applyconfigs.ServerLabel: "web"}))
				must(t, theCluster.Client.List(ctx, &tracked, client.InNamespace(in(ctx)), client.HasLabels{"app.kubernetes.io/instance"}))
				if len(all.Items) == 0 || len(tracked.Items) > 0 {
					t.Errorf("got %d claims and %d with the label, want at least one claim and none with the label", len(all.Items), len(tracked.Items))
				}
			})).
		Assess("a change is Stalled, with the field and the command", all(
			applyWith(func(ctx context.Context) string { return withClaim(ctx, "registry.example/server:1", "2Gi") }),
			conditionSays(v1beta1.ConditionStalled, "RecreateRequired", "spec.volumeClaimTemplates", "data", "--cascade=orphan", "undo the change"),
			eventSays("RecreateRequired", "volumeClaimTemplates"))).
		Assess("the command is lossless", holds(3,
			step(func(ctx context.Context, t *testing.T) {
				condition := apimeta.FindStatusCondition(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionStalled)
				command := regexp.MustCompile(`kubectl (.*--cascade=orphan)`).FindStringSubmatch(condition.Message)
				if command == nil {
					t.Fatalf("no command in %q", condition.Message)
				}
				clusterKubectl(strings.Fields(command[1])...)(ctx, t, nil)
			}),
			childrenAreThere(), conditionIsGone(v1beta1.ConditionStalled), scaleIs(3),
			eventuallyPrints("2Gi", "statefulset/web", ".spec.volumeClaimTemplates[*].spec.resources.requests.storage"),
			step(func(ctx context.Context, t *testing.T) {
				if after := podUIDs(ctx, t); !slices.Equal(after, pods) {
					t.Errorf("the pods were %v and are %v", pods, after)
				}
				if after := claimUIDs(ctx, t); !slices.Equal(after, claims) {
					t.Errorf("the PersistentVolumeClaims were %v and are %v", claims, after)
				}
			}))).
		Assess("other changes are still applied", all(
			applyWith(func(ctx context.Context) string { return withClaim(ctx, "registry.example/server:2", "3Gi") }),
			conditionSays(v1beta1.ConditionStalled, "RecreateRequired"), imageRuns("registry.example/server:2"))).
		Assess("an additional claim with a mount requires a recreate as well", all(
			applyWith(func(ctx context.Context) string {
				return strings.NewReplacer(
					"  podTemplateSpec", "  - {metadata: {name: more}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}\n  podTemplateSpec",
					"volumeMounts: [", "volumeMounts: [{name: more, mountPath: /more}, ",
				).Replace(withClaim(ctx, "registry.example/server:2", "2Gi"))
			}),
			conditionSays(v1beta1.ConditionStalled, "RecreateRequired", "(more)", "--cascade=orphan", "delete the pods one after the other"))).
		Assess("undoing the change ends the condition", all(
			applyWith(func(ctx context.Context) string { return withClaim(ctx, "registry.example/server:2", "2Gi") }),
			conditionIsGone(v1beta1.ConditionStalled), scaleIs(3))).
		Assess("the volumes are deleted", step(func(ctx context.Context, t *testing.T) {
			for i := range 4 {
				must(t, theCluster.Client.Delete(ctx, &corev1.PersistentVolume{ObjectMeta: named(fmt.Sprintf("%s-%d", in(ctx), i))}))
			}
		})).
		Feature())
}

// TestASpecThatTheAPIServerRefuses verifies that a spec that passes the schema but is invalid is reported as Stalled, and does not
// affect the running pods.
func TestASpecThatTheAPIServerRefuses(t *testing.T) {
	var before []types.UID
	testEnv.Test(t, feature("a mount of a missing volume").
		Assess("runs", all(apply(undeclared), scaleIs(1),
			podsAreRemembered(&before))).
		Assess("Stalled names the field", all(
			apply(withTemplate("{spec: {containers: [{name: mcp, volumeMounts: [{name: missing, mountPath: /data}]}]}}")),
			conditionSays(v1beta1.ConditionStalled, "Rejected", "spec.template.spec.containers[0].volumeMounts[0].name", "missing"),
			eventSays("Rejected", "volumeMounts[0].name", "missing"))).
		Assess("the ServiceAccount that the spec drops is not deleted", all(
			apply(strings.Replace(withTemplate("{spec: {containers: [{name: mcp, volumeMounts: [{name: missing, mountPath: /data}]}]}}"),
				"image:", "serviceAccount: default, image:", 1)),
			conditionSays(v1beta1.ConditionStalled, "Rejected", "missing"), passesAreForced(2),
			eventuallyPrints("mcp-web", "serviceaccount/mcp-web", ".metadata.name"))).
		Assess("the running pods are not affected", podsAreStill(&before)).
		Assess("a corrected spec is applied", all(apply(undeclared), conditionIsGone(v1beta1.ConditionStalled), scaleIs(1))).
		Feature())
}

// imageRuns waits until every pod runs an image. It ignores the status of the MCPServer.
func imageRuns(image string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the pods run "+image, func(ctx context.Context) (string, bool) {
			images := jsonpath(ctx, t, "pods", ".items[*].spec.containers[*].image")
			return images, images != "" && !strings.ContainsFunc(strings.ReplaceAll(images, image, ""), func(r rune) bool { return r != ' ' })
		})
	})
}

func claimUIDs(ctx context.Context, t *testing.T) []types.UID {
	t.Helper()
	var list corev1.PersistentVolumeClaimList
	must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
	var uids []types.UID
	for _, claim := range list.Items {
		uids = append(uids, claim.UID)
	}
	slices.Sort(uids)
	return uids
}
