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
	// Name is the name of the field manager, for example kubectl.
	Name string
	// Operation is Apply for server-side apply, and Update for all other writes.
	Operation metav1.ManagedFieldsOperationType
	// Subresource is the subresource through which it writes; empty for the object itself.
	Subresource string
}

// Applier returns the manager with the given name that applies an object itself, not a subresource.
func Applier(name string) Manager {
	return Manager{Name: name, Operation: metav1.ManagedFieldsOperationApply}
}

// Owner is a manager that owns a field.
type Owner struct {
	Manager
	// Time is the time of the last write of this manager to any of its fields, not only to this field. Nil if it was
	// not recorded.
	Time *metav1.Time
}

// OwnersOf returns the managers that own the field at path, in the order of managedFields. The result is empty if the field
// has no owner, and has more than one manager if several wrote the same value. It fails if an entry cannot be parsed.
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

// Release returns a JSON patch that removes the given paths from the fields that manager owns in object. The values do not
// change. The patch tests resourceVersion, so that the server rejects it if the object has changed since it was read. It is
// nil if manager owns none of the paths. Release fails if the object has no resourceVersion, the entry of manager cannot be
// parsed, or no field would have an owner afterwards.
func Release(object metav1.Object, manager Manager, paths ...fieldpath.Path) ([]Operation, error) {
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("releasing fields of %q: the object has no resourceVersion, which the patch must test", object.GetName())
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
			if len(object.GetManagedFields()) == 1 {
				return nil, errNoOwner("releasing", object)
			}
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

// Migrate returns a JSON patch that moves the fields that the managers with the given names own in object, not in a
// subresource, to another manager. The moved managers also give up the excepted paths, which the other manager does not get.
// The values do not change. The patch tests resourceVersion. It is nil if these managers have no entry. Migrate fails if the
// object has no resourceVersion or an entry cannot be parsed.
func Migrate(object metav1.Object, from []string, to Manager, except ...fieldpath.Path) ([]Operation, error) {
	isFrom := func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Subresource == "" && slices.Contains(from, entry.Manager) && ManagerOf(entry) != to
	}
	if !slices.ContainsFunc(object.GetManagedFields(), isFrom) {
		return nil, nil // the usual case: it avoids parsing the entries, which is expensive
	}
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("migrating fields of %q: the object has no resourceVersion, which the patch must test", object.GetName())
	}
	var entries []metav1.ManagedFieldsEntry
	migrated := fieldpath.NewSet()
	var last metav1.ManagedFieldsEntry // the last migrated entry
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
	fields, err := fieldsV1(migrated, to)
	if err != nil {
		return nil, err
	}
	entries = append(entries, metav1.ManagedFieldsEntry{
		Manager: to.Name, Operation: to.Operation, Subresource: to.Subresource, APIVersion: last.APIVersion,
		FieldsType: "FieldsV1", FieldsV1: fields, Time: last.Time,
	})
	return []Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		{Op: "replace", Path: "/metadata/managedFields", Value: entries},
	}, nil
}

// Move returns a JSON patch that takes fields in object from managers and gives them to another manager. If to is nil, the fields then have no
// owner, unless others own them too. The object must have the fields. An entry that is created has apiVersion. The values do not change. The
// patch tests resourceVersion. It is nil if fields is empty. Move fails if the object has no resourceVersion, an entry cannot be parsed, or no field
// would have an owner afterwards.
func Move(object metav1.Object, from []Manager, to *Manager, apiVersion string, fields *fieldpath.Set) ([]Operation, error) {
	if fields.Empty() {
		return nil, nil
	}
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("moving fields of %q: the object has no resourceVersion, which the patch must test", object.GetName())
	}
	var entries []metav1.ManagedFieldsEntry
	received := false
	for _, entry := range object.GetManagedFields() {
		manager := ManagerOf(entry)
		receives, gives := to != nil && manager == *to && !received, slices.Contains(from, manager)
		if !receives && !gives {
			entries = append(entries, entry)
			continue
		}
		owned, err := FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		if receives {
			received, owned = true, owned.Union(fields)
		} else if owned = owned.Difference(fields); owned.Empty() {
			continue
		}
		if entry.FieldsV1, err = fieldsV1(owned, manager); err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	if to != nil && !received {
		entry := metav1.ManagedFieldsEntry{
			Manager: to.Name, Operation: to.Operation, Subresource: to.Subresource, APIVersion: apiVersion, FieldsType: "FieldsV1",
		}
		var err error
		if entry.FieldsV1, err = fieldsV1(fields, *to); err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	if len(entries) == 0 {
		return nil, errNoOwner("moving", object)
	}
	return []Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		{Op: "replace", Path: "/metadata/managedFields", Value: entries},
	}, nil
}

// errNoOwner is the error of a patch that would leave managedFields empty. The API server treats an empty list as a request to start over, and
// assigns all fields to the manager before-first-apply.
func errNoOwner(doing string, object metav1.Object) error {
	return fmt.Errorf("%s fields of %q: no field would have an owner: give the fields to a field manager instead", doing, object.GetName())
}

func fieldsV1(set *fieldpath.Set, manager Manager) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, fmt.Errorf("writing the fields owned by %s: %w", manager.Name, err)
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(raw)
	return fields, nil
}

// ManagerOf returns the manager of an entry.
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

// beforeFirstApply is the manager to which the API server assigns the existing fields if an object without managedFields is applied.
const beforeFirstApply = "before-first-apply"

// identity are the fields that cannot have an owner: the API server omits them from managedFields, and an apply fails if managedFields has them.
var identity = fieldpath.NewSet(
	fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"), fieldpath.MakePathOrDie("metadata"),
	fieldpath.MakePathOrDie("metadata", "name"), fieldpath.MakePathOrDie("metadata", "namespace"), fieldpath.MakePathOrDie("metadata", "uid"),
	fieldpath.MakePathOrDie("metadata", "resourceVersion"), fieldpath.MakePathOrDie("metadata", "generation"),
	fieldpath.MakePathOrDie("metadata", "creationTimestamp"), fieldpath.MakePathOrDie("metadata", "managedFields"),
)

// IsLost reports whether an object has no managedFields, or has the entry that the API server generates at the next apply. A patch that sets
// managedFields to an empty list, or to a list of one empty entry, removes managedFields.
func IsLost(object metav1.Object) bool {
	entries := object.GetManagedFields()
	return len(entries) == 0 || slices.ContainsFunc(entries, isMadeUp)
}

// Has reports whether a manager has an entry in the managedFields of an object.
func Has(object metav1.Object, manager Manager) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool { return ManagerOf(entry) == manager })
}

func isMadeUp(entry metav1.ManagedFieldsEntry) bool { return entry.Manager == beforeFirstApply }

// Repair returns a JSON patch for an object whose managedFields were removed. The patch adds an entry of manager with the given fields, unless
// manager already has an entry, and removes the entry that the API server generated. The values and the entries of other managers do not
// change. The patch tests resourceVersion. Repair fails if the object has no resourceVersion or the fields cannot be written.
func Repair(object metav1.Object, apiVersion string, manager Manager, fields *fieldpath.Set) ([]Operation, error) {
	if object.GetResourceVersion() == "" {
		return nil, fmt.Errorf("repairing the managedFields of %q: the object has no resourceVersion, which the patch must test", object.GetName())
	}
	entries := slices.DeleteFunc(slices.Clone(object.GetManagedFields()), isMadeUp)
	if !slices.ContainsFunc(entries, func(entry metav1.ManagedFieldsEntry) bool { return ManagerOf(entry) == manager }) {
		own, err := fieldsV1(fields.Difference(identity), manager)
		if err != nil {
			return nil, err
		}
		entries = append(entries, metav1.ManagedFieldsEntry{
			Manager: manager.Name, Operation: manager.Operation, Subresource: manager.Subresource, APIVersion: apiVersion,
			FieldsType: "FieldsV1", FieldsV1: own,
		})
	}
	return []Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		// "add" replaces an existing member, and also works if there is none.
		{Op: "add", Path: "/metadata/managedFields", Value: entries},
	}, nil
}
