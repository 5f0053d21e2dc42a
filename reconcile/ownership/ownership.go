// Package ownership reads and edits metadata.managedFields: who owns a field of an object, and how to give up a claim
// to it without touching its value. It is pure and knows nothing of any particular kind.
package ownership

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Manager identifies a field manager: one entry of managedFields.
type Manager struct {
	// Name is the name under which it writes, for example kubectl.
	Name string
	// Operation is Apply for server-side apply, Update for everything else.
	Operation metav1.ManagedFieldsOperationType
	// Subresource through which it writes; empty for the object itself.
	Subresource string
}

// Applier returns the manager that applies an object itself, not a subresource, under the given name.
func Applier(name string) Manager {
	return Manager{Name: name, Operation: metav1.ManagedFieldsOperationApply}
}

// Owner is a manager that owns a field.
type Owner struct {
	Manager
	// Time of the last write of this manager to any of its fields, not only to the one that was asked about. Nil when
	// it was not recorded.
	Time *metav1.Time
}

// OwnersOf returns the managers that own the field at path, in the order of managedFields. There is none when nobody
// claimed it, and more than one when several wrote the same value. It fails when an entry cannot be parsed.
func OwnersOf(object metav1.Object, path fieldpath.Path) ([]Owner, error) {
	var owners []Owner
	for _, entry := range object.GetManagedFields() {
		set, err := FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		if set.Has(path) {
			owners = append(owners, Owner{Manager: ManagerOf(entry), Time: entry.Time})
		}
	}
	return owners, nil
}

// Owns reports whether manager is among owners.
func Owns(owners []Owner, manager Manager) bool {
	for _, owner := range owners {
		if owner.Manager == manager {
			return true
		}
	}
	return false
}

// Operation is one operation of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Release returns a JSON patch that takes the given paths out of what manager owns in object. The values stay as they
// are; only the claim goes. The patch tests resourceVersion, so the server refuses it when the object has changed since
// it was read. It is nil when manager owns none of the paths. It fails when the object has no resourceVersion or the
// manager's entry cannot be parsed.
func Release(object metav1.Object, manager Manager, paths ...fieldpath.Path) ([]Operation, error) {
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("releasing a claim on %q: it has no resourceVersion to guard the patch with", object.GetName())
	}
	for i, entry := range object.GetManagedFields() {
		if ManagerOf(entry) != manager {
			continue
		}
		owned, err := FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		kept := owned.Difference(fieldpath.NewSet(paths...))
		if kept.Equals(owned) {
			return nil, nil
		}
		patch := []Operation{{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()}}
		entryPath := fmt.Sprintf("/metadata/managedFields/%d", i)
		if kept.Empty() {
			return append(patch, Operation{Op: "remove", Path: entryPath}), nil
		}
		fields, err := kept.ToJSON()
		if err != nil {
			return nil, fmt.Errorf("writing the fields owned by %s: %w", manager.Name, err)
		}
		return append(patch, Operation{Op: "replace", Path: entryPath + "/fieldsV1", Value: json.RawMessage(fields)}), nil
	}
	return nil, nil
}

// Migrate returns a JSON patch that makes what the managers of the given names own in object, not in a subresource of
// it, the property of another one, and gives the excepted paths up. The values stay as they are. The patch tests
// resourceVersion. It is nil when those managers own nothing. It fails when the object has no resourceVersion or an
// entry cannot be parsed.
func Migrate(object metav1.Object, from []string, to Manager, except ...fieldpath.Path) ([]Operation, error) {
	isFrom := func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Subresource == "" && slices.Contains(from, entry.Manager) && ManagerOf(entry) != to
	}
	if !slices.ContainsFunc(object.GetManagedFields(), isFrom) {
		return nil, nil // as nearly always: to parse entries is much of the work of a pass
	}
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("migrating the claims on %q: it has no resourceVersion to guard the patch with", object.GetName())
	}
	var entries []metav1.ManagedFieldsEntry
	migrated := fieldpath.NewSet()
	var last metav1.ManagedFieldsEntry // of those that are migrated
	for _, entry := range object.GetManagedFields() {
		if !isFrom(entry) && ManagerOf(entry) != to {
			entries = append(entries, entry)
			continue
		}
		owned, err := FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		if isFrom(entry) {
			last, owned = entry, owned.Difference(fieldpath.NewSet(except...))
		}
		migrated = migrated.Union(owned)
	}
	raw, err := migrated.ToJSON()
	if err != nil {
		return nil, fmt.Errorf("writing the fields owned by %s: %w", to.Name, err)
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(raw)
	entries = append(entries, metav1.ManagedFieldsEntry{
		Manager: to.Name, Operation: to.Operation, Subresource: to.Subresource, APIVersion: last.APIVersion,
		FieldsType: "FieldsV1", FieldsV1: fields, Time: last.Time,
	})
	return []Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		{Op: "replace", Path: "/metadata/managedFields", Value: entries},
	}, nil
}

// ManagerOf returns the manager whose entry it is.
func ManagerOf(entry metav1.ManagedFieldsEntry) Manager {
	return Manager{Name: entry.Manager, Operation: entry.Operation, Subresource: entry.Subresource}
}

// FieldsOf parses the fields of an entry. An entry without fields owns nothing. It fails on an unknown format.
func FieldsOf(entry metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	set := fieldpath.NewSet()
	if entry.FieldsV1 == nil {
		return set, nil
	}
	raw := entry.FieldsV1.GetRawBytes()
	if len(bytes.TrimSpace(raw)) == 0 {
		return set, nil
	}
	if entry.FieldsType != "FieldsV1" {
		return nil, fmt.Errorf("fields of manager %q have the unknown format %q", entry.Manager, entry.FieldsType)
	}
	if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("parsing the fields owned by manager %q: %w", entry.Manager, err)
	}
	return set, nil
}

// beforeFirstApply is the manager for which the API server records the fields of an object that has no managedFields when it is applied.
const beforeFirstApply = "before-first-apply"

// identity are the fields that nobody owns: the API server leaves them out of managedFields, and fails to apply if they are in it.
var identity = fieldpath.NewSet(
	fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"), fieldpath.MakePathOrDie("metadata"),
	fieldpath.MakePathOrDie("metadata", "name"), fieldpath.MakePathOrDie("metadata", "namespace"), fieldpath.MakePathOrDie("metadata", "uid"),
	fieldpath.MakePathOrDie("metadata", "resourceVersion"), fieldpath.MakePathOrDie("metadata", "generation"),
	fieldpath.MakePathOrDie("metadata", "creationTimestamp"), fieldpath.MakePathOrDie("metadata", "managedFields"),
)

// IsLost reports whether an object has no record of who owns its fields, or has the one that the API server makes up at an apply. To patch
// managedFields to an empty list, or to a list of one empty entry, removes the record.
func IsLost(object metav1.Object) bool {
	entries := object.GetManagedFields()
	return len(entries) == 0 || slices.ContainsFunc(entries, isMadeUp)
}

// Has reports whether a manager has an entry in the managedFields of an object.
func Has(object metav1.Object, manager Manager) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool { return ManagerOf(entry) == manager })
}

func isMadeUp(entry metav1.ManagedFieldsEntry) bool { return entry.Manager == beforeFirstApply }

// Repair returns a JSON patch that records that manager owns fields in an object that has lost the record, unless it has an entry already,
// and that removes the entry that the API server has made up. The values and the entries of others stay. The patch tests resourceVersion.
// It fails when the object has no resourceVersion or the fields cannot be written.
func Repair(object metav1.Object, apiVersion string, manager Manager, fields *fieldpath.Set) ([]Operation, error) {
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("repairing the managedFields of %q: it has no resourceVersion to guard the patch with", object.GetName())
	}
	entries := slices.DeleteFunc(slices.Clone(object.GetManagedFields()), isMadeUp)
	if !slices.ContainsFunc(entries, func(entry metav1.ManagedFieldsEntry) bool { return ManagerOf(entry) == manager }) {
		raw, err := fields.Difference(identity).ToJSON()
		if err != nil {
			return nil, fmt.Errorf("writing the fields owned by %s: %w", manager.Name, err)
		}
		own := &metav1.FieldsV1{}
		own.SetRawBytes(raw)
		entries = append(entries, metav1.ManagedFieldsEntry{
			Manager: manager.Name, Operation: manager.Operation, Subresource: manager.Subresource, APIVersion: apiVersion,
			FieldsType: "FieldsV1", FieldsV1: own,
		})
	}
	return []Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		// "add" replaces a member that is there, and also works where there is none.
		{Op: "add", Path: "/metadata/managedFields", Value: entries},
	}, nil
}
