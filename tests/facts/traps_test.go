package facts

import (
	"encoding/json"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/ownership"
)

// The facts in this file are traps for operators that write with server-side apply: see docs/operator-authors.md.

// create creates the StatefulSet with a POST, as client.Create does.
func create(t *testing.T, as string, config *appsv1ac.StatefulSetApplyConfiguration) {
	t.Helper()
	body, err := json.Marshal(config)
	must(t, err)
	object := &appsv1.StatefulSet{}
	must(t, json.Unmarshal(body, object))
	must(t, theCluster.Client.Create(t.Context(), object, client.FieldOwner(as)))
}

func TestACreatedObjectOwnsItsDefaults(t *testing.T) {
	create(t, manager, set(t, -1))
	wantOwners(t, manager+"/Update/")
}

func TestAFieldThatWasCreatedOutlivesItsApply(t *testing.T) {
	labeled := func() *appsv1ac.StatefulSetApplyConfiguration {
		return set(t, -1).WithLabels(map[string]string{"old": "yes"})
	}
	create(t, manager, labeled())
	must(t, apply(t, manager, labeled(), client.ForceOwnership))
	must(t, apply(t, manager, set(t, -1), client.ForceOwnership))
	if _, found := get(t).Labels["old"]; !found {
		t.Fatal("the label is gone, so operators need not migrate the entry with which they created the object")
	}
}

func TestMigratingTheReplicasResetsThemAtTheNextApply(t *testing.T) {
	create(t, manager, set(t, 5))
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(get(t), sets.New(manager), manager)
	must(t, err)
	must(t, theCluster.Client.Patch(t.Context(), get(t), client.RawPatch(types.JSONPatchType, patch)))
	must(t, apply(t, manager, set(t, -1), client.ForceOwnership))
	wantReplicas(t, 1)
}

func TestMigratingAllButTheReplicasKeepsThem(t *testing.T) {
	create(t, manager, set(t, 5))
	patch, err := ownership.Migrate(get(t), []string{manager}, ownership.Applier(manager), replicasPath)
	must(t, err)
	body, err := json.Marshal(patch)
	must(t, err)
	must(t, theCluster.Client.Patch(t.Context(), get(t), client.RawPatch(types.JSONPatchType, body)))
	must(t, apply(t, manager, set(t, -1), client.ForceOwnership))
	wantReplicas(t, 5)
}

func TestAForcedApplyReplacesAnAtomicMap(t *testing.T) {
	selecting := func(key string) *appsv1ac.StatefulSetApplyConfiguration {
		config := set(t, 1)
		config.Spec.Template.Spec.WithNodeSelector(map[string]string{key: "yes"})
		return config
	}
	must(t, apply(t, "someone-else", selecting("theirs")))
	must(t, apply(t, manager, selecting("ours"), client.ForceOwnership))
	if selector := get(t).Spec.Template.Spec.NodeSelector; len(selector) != 1 || selector["ours"] != "yes" {
		t.Fatalf("the node selector is %v", selector)
	}
}

func TestAConvertedObjectClaimsZeroValues(t *testing.T) {
	object := &appsv1.StatefulSet{}
	body, err := json.Marshal(set(t, 1))
	must(t, err)
	must(t, json.Unmarshal(body, object))
	converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	must(t, err)
	body, err = json.Marshal(converted)
	must(t, err)
	must(t, theCluster.Client.Patch(t.Context(), object, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(manager)))
	for _, path := range []fieldpath.Path{
		fieldpath.MakePathOrDie("spec", "updateStrategy"),
		fieldpath.MakePathOrDie("spec", "template", "spec", "containers", fieldpath.KeyByFields("name", "a"), "resources"),
	} {
		if !slices.Contains(ownersOf(t, path), manager) {
			t.Errorf("%s is owned by %v", path, ownersOf(t, path))
		}
	}
}

func TestEmptiedManagedFieldsGiveEveryFieldToAnotherManager(t *testing.T) {
	must(t, apply(t, manager, set(t, 3)))
	must(t, theCluster.Client.Patch(t.Context(), get(t), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"managedFields":[]}}`))))
	if !ownership.IsLost(get(t)) {
		t.Fatalf("managedFields are %v", get(t).ManagedFields)
	}
	must(t, apply(t, manager, set(t, -1), client.ForceOwnership))
	wantOwners(t, "before-first-apply/Update/")
	wantReplicas(t, 3)
}

func TestAnUnownedDefaultCanMakeAnApplyInvalid(t *testing.T) {
	must(t, apply(t, manager, set(t, 1)))
	onDelete := set(t, 1)
	onDelete.Spec.WithUpdateStrategy(appsv1ac.StatefulSetUpdateStrategy().WithType(appsv1.OnDeleteStatefulSetStrategyType))
	if err := apply(t, manager, onDelete, client.ForceOwnership); !apierrors.IsInvalid(err) {
		t.Fatalf("got %v", err)
	}
}

func TestADroppedContainerTakesTheFieldsOfOthersWithIt(t *testing.T) {
	must(t, apply(t, manager, set(t, 1)))
	must(t, theCluster.Client.Patch(t.Context(), get(t), client.RawPatch(types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"a","env":[{"name":"THEIRS","value":"1"}]}]}}}}`)), client.FieldOwner("kubectl-set")))
	renamed := set(t, 1)
	renamed.Spec.Template.Spec.Containers[0].WithName("b")
	must(t, apply(t, manager, renamed, client.ForceOwnership))
	containers := get(t).Spec.Template.Spec.Containers
	if len(containers) != 1 || containers[0].Name != "b" || len(containers[0].Env) != 0 {
		t.Fatalf("the containers are %+v", containers)
	}
}
