// Package facts pins the behavior of server-side apply and of the scale that the operator relies on. It uses a real API server, so that
// these tests detect a Kubernetes version that changes the behavior. Each test covers one fact.
package facts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/tests/cluster"
)

var theCluster *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(cluster.RunSuite("facts", nil, func(_ context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return m.Run(), nil
	}))
}

const manager = "operator"

var replicasPath = fieldpath.MakePathOrDie("spec", "replicas")

// set builds a StatefulSet with a unique name for a test. If replicas is negative, the field is unset.
func set(t *testing.T, replicas int32) *appsv1ac.StatefulSetApplyConfiguration {
	labels := map[string]string{"app": "a"}
	spec := appsv1ac.StatefulSetSpec().
		WithServiceName("a").
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(labels).WithSpec(corev1ac.PodSpec().WithContainers(
			corev1ac.Container().WithName("a").WithImage("registry.example/a:1"))))
	if replicas >= 0 {
		spec.WithReplicas(replicas)
	}
	return appsv1ac.StatefulSet(nameOf(t), "default").WithSpec(spec)
}

func nameOf(t *testing.T) string {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	return strings.Trim(name[:min(len(name), 52)], "-")
}

func get(t *testing.T) *appsv1.StatefulSet {
	t.Helper()
	live := &appsv1.StatefulSet{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: nameOf(t)}, live))
	return live
}

func apply(t *testing.T, as string, config *appsv1ac.StatefulSetApplyConfiguration, options ...client.ApplyOption) error {
	t.Helper()
	return theCluster.Client.Apply(t.Context(), config, append(options, client.FieldOwner(as))...)
}

// scale does what kubectl scale does.
func scale(t *testing.T, replicas int32) {
	t.Helper()
	must(t, theCluster.Client.SubResource("scale").Patch(t.Context(), get(t),
		client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)), client.FieldOwner("kubectl")))
}

func wantReplicas(t *testing.T, want int32) {
	t.Helper()
	if got := *get(t).Spec.Replicas; got != want {
		t.Fatalf("replicas are %d, want %d", got, want)
	}
}

// wantOwners fails unless the given owners own spec.replicas. The format is NAME/OPERATION/SUBRESOURCE.
func wantOwners(t *testing.T, want ...string) {
	t.Helper()
	owners, err := ownership.OwnersOf(get(t), replicasPath)
	must(t, err)
	got := []string{}
	for _, owner := range owners {
		got = append(got, fmt.Sprintf("%s/%s/%s", owner.Name, owner.Operation, owner.Subresource))
	}
	slices.Sort(got)
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Fatalf("spec.replicas is owned by %v, want %v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestScaleOfAnUnownedFieldRecordsNoOwner(t *testing.T) {
	must(t, apply(t, manager, set(t, -1)))
	wantReplicas(t, 1)
	scale(t, 5)
	wantReplicas(t, 5)
	wantOwners(t)
}

func TestScaleOfAnOwnedFieldIsRecorded(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	scale(t, 5)
	wantOwners(t, "kubectl/Update/scale")
	live, current := get(t), &autoscalingv1.Scale{}
	must(t, theCluster.Client.SubResource("scale").Get(t.Context(), live, current))
	current.Spec.Replicas = 6
	must(t, theCluster.Client.SubResource("scale").Update(t.Context(), live, client.WithSubResourceBody(current),
		client.FieldOwner("kube-controller-manager")))
	wantOwners(t, "kube-controller-manager/Update/scale")
}

func TestPatchOfTheObjectIsRecorded(t *testing.T) {
	must(t, apply(t, manager, set(t, -1)))
	must(t, theCluster.Client.Patch(t.Context(), get(t),
		client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":5}}`)), client.FieldOwner("kubectl-patch")))
	wantOwners(t, "kubectl-patch/Update/")
}

func TestScaleToTheSameValueTakesNoOwnership(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	scale(t, 3)
	wantOwners(t, manager+"/Apply/")
}

func TestAPatchToTheSameValueTakesNoOwnership(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	must(t, theCluster.Client.Patch(t.Context(), get(t),
		client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":3}}`)), client.FieldOwner("kubectl-patch")))
	wantOwners(t, manager+"/Apply/")
}

func TestOnlyApplierLeavingItOutResetsIt(t *testing.T) {
	must(t, apply(t, manager, set(t, 5)))
	must(t, apply(t, manager, set(t, -1)))
	wantReplicas(t, 1)
}

func TestExplicitNullClaimsAndResets(t *testing.T) {
	must(t, apply(t, manager, set(t, -1)))
	scale(t, 5)
	body, err := json.Marshal(set(t, -1))
	must(t, err)
	body = []byte(strings.Replace(string(body), `"spec":{`, `"spec":{"replicas":null,`, 1))
	must(t, theCluster.Client.Patch(t.Context(), get(t), client.RawPatch(types.ApplyPatchType, body),
		client.FieldOwner(manager), client.ForceOwnership))
	wantReplicas(t, 1)
}

func TestApplyLeavesAFieldAloneThatItDoesNotOwn(t *testing.T) {
	must(t, apply(t, manager, set(t, -1)))
	scale(t, 5)
	must(t, apply(t, manager, set(t, -1).WithLabels(map[string]string{"changed": "yes"}), client.ForceOwnership))
	wantReplicas(t, 5)
}

func TestStaleResourceVersionIsAConflict(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	stale := get(t)
	scale(t, 5)
	err := apply(t, manager, set(t, -1).WithUID(stale.UID).WithResourceVersion(stale.ResourceVersion), client.ForceOwnership)
	if !apierrors.IsConflict(err) {
		t.Fatalf("got %v", err)
	}
	wantReplicas(t, 5)
}

func TestUIDOfAnAbsentObjectIsAConflict(t *testing.T) {
	err := apply(t, manager, set(t, 3).WithUID("00000000-0000-0000-0000-000000000001").WithResourceVersion("1"))
	if !apierrors.IsConflict(err) {
		t.Fatalf("got %v", err)
	}
}

func TestUIDOfAnotherObjectIsInvalidAndNamesTheField(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	err := apply(t, manager, set(t, 3).WithUID("00000000-0000-0000-0000-000000000001"), client.ForceOwnership)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.uid") {
		t.Fatalf("got %v", err)
	}
}

func TestResourceVersionOneCreatesButNeverOverwrites(t *testing.T) {
	must(t, apply(t, manager, set(t, 3).WithResourceVersion("1")))
	err := apply(t, "someone-else", set(t, 5).WithResourceVersion("1"), client.ForceOwnership)
	if !apierrors.IsConflict(err) {
		t.Fatalf("got %v", err)
	}
	wantReplicas(t, 3)
	wantOwners(t, manager+"/Apply/")
}

func TestReleaseKeepsTheValueAndFreesTheField(t *testing.T) {
	must(t, apply(t, manager, set(t, 5)))
	release(t, get(t))
	wantReplicas(t, 5)
	wantOwners(t)
	must(t, apply(t, manager, set(t, -1), client.ForceOwnership))
	wantReplicas(t, 5)
	must(t, apply(t, "argocd-controller", appsv1ac.StatefulSet(nameOf(t), "default").
		WithSpec(appsv1ac.StatefulSetSpec().WithReplicas(7))))
	wantReplicas(t, 7)
}

func TestReleaseOfAStaleVersionIsInvalidWithoutACause(t *testing.T) {
	must(t, apply(t, manager, set(t, 5)))
	stale := get(t)
	scale(t, 6)
	err := tryRelease(t, stale)
	if !apierrors.IsInvalid(err) {
		t.Fatalf("got %v", err)
	}
	var status apierrors.APIStatus
	errors.As(err, &status)
	if details := status.Status().Details; details != nil && len(details.Causes) > 0 {
		t.Fatalf("the causes are %v", details.Causes)
	}
	wantReplicas(t, 6)
}

func release(t *testing.T, live *appsv1.StatefulSet) {
	t.Helper()
	must(t, tryRelease(t, live))
}

func tryRelease(t *testing.T, live *appsv1.StatefulSet) error {
	t.Helper()
	patch, err := ownership.Release(live, ownership.Applier(manager), replicasPath)
	must(t, err)
	body, err := json.Marshal(patch)
	must(t, err)
	return theCluster.Client.Patch(t.Context(), live.DeepCopy(), client.RawPatch(types.JSONPatchType, body), client.FieldOwner(manager))
}

func TestConflictNamesFieldAndManager(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	err := apply(t, "someone-else", appsv1ac.StatefulSet(nameOf(t), "default").
		WithSpec(appsv1ac.StatefulSetSpec().WithReplicas(5)))
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), ".spec.replicas") || !strings.Contains(err.Error(), manager) {
		t.Fatalf("got %v", err)
	}
}

func TestForcedApplyOntoAForeignObjectSucceeds(t *testing.T) {
	must(t, apply(t, "someone-else", set(t, 3)))
	if err := apply(t, manager, set(t, 1), client.ForceOwnership); err != nil {
		t.Fatalf("the API server rejects the apply, so the operator would no longer need its check before the apply: %v", err)
	}
}

func TestApplyThatChangesNothingKeepsTheResourceVersion(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	before := get(t).ResourceVersion
	must(t, apply(t, manager, set(t, 3), client.ForceOwnership))
	if after := get(t).ResourceVersion; after != before {
		t.Fatalf("resourceVersion was %s and is %s", before, after)
	}
}

func TestApplyDecodesTheAnswerIntoItsArgument(t *testing.T) {
	config := set(t, -1)
	must(t, apply(t, manager, config))
	if config.Spec.Replicas == nil || config.ResourceVersion == nil {
		t.Fatal("the apply configuration is unchanged, so it could be used twice")
	}
}

func TestEmptyEnvValueReadsBackWithoutTheKey(t *testing.T) {
	config := set(t, -1)
	config.Spec.Template.Spec.Containers[0].WithEnv(corev1ac.EnvVar().WithName("EMPTY").WithValue(""))
	must(t, apply(t, manager, config))
	owned, err := appsv1ac.ExtractStatefulSet(get(t), manager)
	must(t, err)
	if value := owned.Spec.Template.Spec.Containers[0].Env[0].Value; value != nil {
		t.Fatalf("the value reads back as %q", *value)
	}
}

func TestApplyOfTheStatusOfAnAbsentObjectIsNotFound(t *testing.T) {
	err := theCluster.Client.Status().Apply(t.Context(), set(t, 1), client.FieldOwner(manager))
	if !apierrors.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
}

func TestImmutableFieldIsInvalid(t *testing.T) {
	must(t, apply(t, manager, set(t, 1)))
	config := set(t, 1)
	config.Spec.WithServiceName("another")
	if err := apply(t, manager, config, client.ForceOwnership); !apierrors.IsInvalid(err) {
		t.Fatalf("got %v", err)
	}
}

func TestScaleOfAnUndeclaredMCPServerCannotBeReadButSet(t *testing.T) {
	const name = "undeclared"
	_, err := theCluster.KubectlWithInput(t.Context(),
		"{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, metadata: {name: undeclared}, spec: {image: a}}", "apply", "-f", "-")
	must(t, err)
	out, err := theCluster.Kubectl(t.Context(), "get", "--raw",
		"/apis/toolhive.stacklok.dev/v1beta1/namespaces/default/mcpservers/"+name+"/scale")
	if err == nil || !strings.Contains(out, "does not exist") {
		t.Fatalf("got %v: %s", err, out)
	}
	_, err = theCluster.Kubectl(t.Context(), "scale", "mcpserver/"+name, "--replicas=2")
	must(t, err)
}

func TestEntriesOfKeyedListsSurviveAForcedApply(t *testing.T) {
	must(t, apply(t, manager, set(t, 1)))
	must(t, apply(t, "injector", appsv1ac.StatefulSet(nameOf(t), "default").WithSpec(appsv1ac.StatefulSetSpec().
		WithTemplate(corev1ac.PodTemplateSpec().WithSpec(corev1ac.PodSpec().WithContainers(
			corev1ac.Container().WithName("sidecar").WithImage("registry.example/sidecar:1"),
			corev1ac.Container().WithName("a").WithEnv(corev1ac.EnvVar().WithName("INJECTED").WithValue("yes"))))))))
	changed := set(t, 1)
	changed.Spec.Template.Spec.Containers[0].WithImage("registry.example/a:2").WithEnv(corev1ac.EnvVar().WithName("OURS").WithValue("yes"))
	must(t, apply(t, manager, changed, client.ForceOwnership))
	containers := get(t).Spec.Template.Spec.Containers
	if len(containers) != 2 || len(containers[0].Env)+len(containers[1].Env) != 2 {
		t.Fatalf("the containers are %+v", containers)
	}
}

func TestDefaultsOfAtomicReferencesAreOwned(t *testing.T) {
	config := set(t, 1)
	config.Spec.Template.Spec.Containers[0].WithEnv(corev1ac.EnvVar().WithName("CPUS").WithValueFrom(corev1ac.EnvVarSource().
		WithResourceFieldRef(corev1ac.ResourceFieldSelector().WithResource("limits.cpu"))))
	must(t, apply(t, manager, config))
	owned, err := appsv1ac.ExtractStatefulSet(get(t), manager)
	must(t, err)
	if ref := owned.Spec.Template.Spec.Containers[0].Env[0].ValueFrom.ResourceFieldRef; ref.Divisor == nil {
		t.Fatal("the divisor is no longer defaulted, so the builder could leave it out")
	}
}
