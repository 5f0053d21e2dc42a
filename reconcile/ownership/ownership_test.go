package ownership

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

var replicas = fieldpath.MakePathOrDie("spec", "replicas")

func entry(manager string, operation metav1.ManagedFieldsOperationType, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

func object(entries ...metav1.ManagedFieldsEntry) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web", ResourceVersion: "7", ManagedFields: entries}}
}

func TestOwnersOfAreTheManagersThatHaveThePath(t *testing.T) {
	set := object(
		entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{},"f:template":{}}}`),
		entry("kubectl", metav1.ManagedFieldsOperationUpdate, "scale", `{"f:spec":{"f:replicas":{}}}`),
		entry("other", metav1.ManagedFieldsOperationUpdate, "", `{"f:metadata":{"f:labels":{"f:replicas":{}}}}`),
		metav1.ManagedFieldsEntry{Manager: "empty", Operation: metav1.ManagedFieldsOperationUpdate},
	)
	owners, err := OwnersOf(set, replicas)
	if err != nil {
		t.Fatal(err)
	}
	if len(owners) != 2 || owners[0].Manager != Applier("operator") ||
		owners[1].Manager != (Manager{"kubectl", metav1.ManagedFieldsOperationUpdate, "scale"}) {
		t.Errorf("got %+v", owners)
	}
	if !Owns(owners, Applier("operator")) {
		t.Error("the operator owns the path")
	}
	// The same name with another operation is another manager.
	if Owns(owners, Manager{Name: "operator", Operation: metav1.ManagedFieldsOperationUpdate}) || Owns(owners, Applier("kubectl")) {
		t.Error("name, operation and subresource identify a manager together")
	}
}

func TestMalformedFieldsAreAnErrorThatNamesTheManager(t *testing.T) {
	for _, fields := range []string{`{`, `[]`, `"x"`, `{"f:spec":3}`, `{"k:{":{}}`} {
		set := object(entry("broken", metav1.ManagedFieldsOperationApply, "", fields))
		if _, err := OwnersOf(set, replicas); err == nil || !strings.Contains(err.Error(), `"broken"`) {
			t.Errorf("%s: OwnersOf: %v", fields, err)
		}
		if _, err := Release(set, Applier("broken"), replicas); err == nil || !strings.Contains(err.Error(), `"broken"`) {
			t.Errorf("%s: Release: %v", fields, err)
		}
	}
	set := object(metav1.ManagedFieldsEntry{Manager: "future", FieldsType: "FieldsV2", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)})
	if _, err := OwnersOf(set, replicas); err == nil || !strings.Contains(err.Error(), "FieldsV2") {
		t.Errorf("got %v", err)
	}
}

func TestReleaseTakesOnlyThePathsOutOfOnlyThatManager(t *testing.T) {
	set := object(
		entry("kubectl", metav1.ManagedFieldsOperationUpdate, "", `{"f:spec":{"f:replicas":{}}}`),
		entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:replicas":{},"f:template":{}}}`),
	)
	patch, err := Release(set, Applier("operator"), replicas)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"op":"test","path":"/metadata/resourceVersion","value":"7"},` +
		`{"op":"replace","path":"/metadata/managedFields/1/fieldsV1","value":` +
		`{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:template":{}}}}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReleaseOfTheLastPathRemovesTheEntry(t *testing.T) {
	set := object(
		entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`),
		entry("kubectl", metav1.ManagedFieldsOperationUpdate, "", `{"f:spec":{"f:template":{}}}`),
	)
	patch, err := Release(set, Applier("operator"), replicas)
	if err != nil {
		t.Fatal(err)
	}
	if len(patch) != 2 || patch[1] != (Operation{Op: "remove", Path: "/metadata/managedFields/0"}) {
		t.Errorf("got %+v", patch)
	}
}

// TestReleaseOfTheOnlyOwnedPathIsRefused: the API server would assign every field of the object to before-first-apply at the next apply.
func TestReleaseOfTheOnlyOwnedPathIsRefused(t *testing.T) {
	set := object(entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`))
	if patch, err := Release(set, Applier("operator"), replicas); err == nil {
		t.Errorf("got %v", patch)
	}
}

func TestReleaseOfWhatIsNotOwnedIsNothing(t *testing.T) {
	for name, set := range map[string]*appsv1.StatefulSet{
		"no entry":       object(),
		"other manager":  object(entry("kubectl", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`)),
		"other paths":    object(entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:template":{}}}`)),
		"no fields":      object(metav1.ManagedFieldsEntry{Manager: "operator", Operation: metav1.ManagedFieldsOperationApply}),
		"by an update":   object(entry("operator", metav1.ManagedFieldsOperationUpdate, "", `{"f:spec":{"f:replicas":{}}}`)),
		"on subresource": object(entry("operator", metav1.ManagedFieldsOperationApply, "scale", `{"f:spec":{"f:replicas":{}}}`)),
	} {
		if patch, err := Release(set, Applier("operator"), replicas); err != nil || patch != nil {
			t.Errorf("%s: got %v, %v", name, patch, err)
		}
	}
}

func TestReleaseWithoutAResourceVersionIsRefused(t *testing.T) {
	set := object(entry("operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`))
	set.ResourceVersion = ""
	if _, err := Release(set, Applier("operator"), replicas); err == nil {
		t.Error("the patch has no test of the resourceVersion")
	}
}

// FuzzFields verifies for any content of managedFields that the functions return a result or an error, and that Release removes exactly the
// released fields.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"f:spec":{"f:replicas":{}}}`, `{"f:spec":{".":{},"f:replicas":{}}}`,
		`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"mcp\"}":{".":{},"f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:name":{}}}}}}}`,
		`{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"00000000-0000-0000-0000-000000000001\"}":{}},"f:finalizers":{"v:\"a\"":{}}}}`,
		`{"f:spec":{"f:list":{"i:0":{}}}}`, `{"k:{}":{}}`, `null`, `{"f:":{}}`, `{"v:":{}}`, `{"i:x":{}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, fields string) {
		set := object(entry("operator", metav1.ManagedFieldsOperationApply, "", fields),
			entry("kubectl", metav1.ManagedFieldsOperationUpdate, "", `{"f:spec":{"f:template":{}}}`))
		owners, err := OwnersOf(set, replicas)
		patch, releaseErr := Release(set, Applier("operator"), replicas)
		if (err == nil) != (releaseErr == nil) {
			t.Fatalf("OwnersOf: %v, Release: %v", err, releaseErr)
		}
		if err != nil {
			return
		}
		if (len(owners) == 1) != (patch != nil) {
			t.Fatalf("owners %v, patch %v", owners, patch)
		}
		if len(patch) == 2 && patch[1].Op == "replace" {
			raw, ok := patch[1].Value.(json.RawMessage)
			if !ok {
				t.Fatalf("the patch has a %T", patch[1].Value)
			}
			released := object(entry("operator", metav1.ManagedFieldsOperationApply, "", string(raw)))
			if left, err := OwnersOf(released, replicas); err != nil || len(left) > 0 {
				t.Fatalf("after the release: %v, %v", left, err)
			}
		}
	})
}

// TestRepairRecordsWhatAManagerOwns tests Repair without managedFields, and with the entry that the API server generates. The entries of other
// managers and an existing entry of the manager must not change.
func TestRepairRecordsWhatAManagerOwns(t *testing.T) {
	self := Applier("operator")
	fields := fieldpath.NewSet(fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("metadata", "name"), fieldpath.MakePathOrDie("spec", "a"))
	entry := func(manager string, operation metav1.ManagedFieldsOperationType) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Operation: operation, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:b":{}}}`),
		}
	}
	made, other, ours := entry(beforeFirstApply, metav1.ManagedFieldsOperationUpdate), entry("other", metav1.ManagedFieldsOperationUpdate), entry("operator", metav1.ManagedFieldsOperationApply)
	for name, row := range map[string]struct {
		entries []metav1.ManagedFieldsEntry
		want    string
	}{
		"none":            {nil, `operator {"f:spec":{"f:a":{}}}`},
		"generated":       {[]metav1.ManagedFieldsEntry{made, other}, `other {"f:spec":{"f:b":{}}} operator {"f:spec":{"f:a":{}}}`},
		"generated, ours": {[]metav1.ManagedFieldsEntry{made, ours}, `operator {"f:spec":{"f:b":{}}}`},
	} {
		object := &metav1.ObjectMeta{Name: "web", ResourceVersion: "7", ManagedFields: row.entries}
		if !IsLost(object) {
			t.Errorf("%s: the record does not count as lost", name)
		}
		patch, err := Repair(object, "apps/v1", self, fields)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range patch[1].Value.([]metav1.ManagedFieldsEntry) {
			got = append(got, entry.Manager, entry.FieldsV1.GetRawString())
		}
		if strings.Join(got, " ") != row.want || patch[0].Path != "/metadata/resourceVersion" {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if IsLost(&metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{other}}) {
		t.Error("the record of another manager alone is no loss")
	}
}

// TestMoveChangesOnlyTheNamedFields: the givers lose the fields, the receiver gets them, and all other fields stay with their owners.
func TestMoveChangesOnlyTheNamedFields(t *testing.T) {
	helm, scaler, controller := Applier("helm"), Manager{"kubectl", metav1.ManagedFieldsOperationUpdate, "scale"}, Applier("argocd-controller")
	for name, test := range map[string]struct {
		from []Manager
		to   *Manager
		want map[Manager]string
	}{
		"to nobody": {
			[]Manager{helm, scaler}, nil,
			map[Manager]string{helm: `{"f:spec":{"f:template":{}}}`, Applier("other"): `{"f:spec":{"f:replicas":{}}}`},
		},
		"to a new manager": {
			[]Manager{helm}, &controller,
			map[Manager]string{
				helm: `{"f:spec":{"f:template":{}}}`, scaler: `{"f:spec":{"f:replicas":{}}}`, Applier("other"): `{"f:spec":{"f:replicas":{}}}`,
				controller: `{"f:spec":{"f:replicas":{}}}`,
			},
		},
		"to a manager that has fields": {
			[]Manager{scaler, Applier("other")}, &helm,
			map[Manager]string{helm: `{"f:spec":{"f:replicas":{},"f:template":{}}}`},
		},
		"from a manager to itself": {
			[]Manager{helm}, &helm,
			map[Manager]string{
				helm: `{"f:spec":{"f:replicas":{},"f:template":{}}}`, scaler: `{"f:spec":{"f:replicas":{}}}`, Applier("other"): `{"f:spec":{"f:replicas":{}}}`,
			},
		},
	} {
		set := object(
			entry("helm", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{},"f:template":{}}}`),
			entry("kubectl", metav1.ManagedFieldsOperationUpdate, "scale", `{"f:spec":{"f:replicas":{}}}`),
			entry("other", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`),
		)
		patch, err := Move(set, test.from, test.to, "apps/v1", fieldpath.NewSet(replicas))
		if err != nil || len(patch) != 2 || patch[0].Op != "test" || patch[0].Value != "7" {
			t.Fatalf("%s: got %+v, %v", name, patch, err)
		}
		got := map[Manager]string{}
		for _, entry := range patch[1].Value.([]metav1.ManagedFieldsEntry) {
			got[ManagerOf(entry)] = string(entry.FieldsV1.GetRawBytes())
		}
		if !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	if patch, err := Move(object(), nil, &helm, "apps/v1", fieldpath.NewSet()); patch != nil || err != nil {
		t.Errorf("no fields: got %v, %v", patch, err)
	}
	alone := object(entry("helm", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`))
	if _, err := Move(alone, []Manager{helm}, nil, "apps/v1", fieldpath.NewSet(replicas)); err == nil {
		t.Error("without any entry, Kubernetes would assign all fields to before-first-apply")
	}
	set := object()
	set.ResourceVersion = ""
	if _, err := Move(set, nil, &helm, "apps/v1", fieldpath.NewSet(replicas)); err == nil {
		t.Error("without a resourceVersion, the patch would apply to any version")
	}
}
