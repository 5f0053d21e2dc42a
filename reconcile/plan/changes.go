package plan

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// Somebody is the name of a writer that Kubernetes did not record.
const Somebody = "somebody"

// scaleFields are excluded here, because they have separate events.
var scaleFields = fieldpath.NewSet(observe.ReplicasPath, observe.DeclaredReplicasPath)

// Change is a change of another writer to fields that the operator applies.
type Change struct {
	// Manager is the field manager of the writer, or Somebody.
	Manager string
	// Fields are the paths of the changed fields.
	Fields []string
	// Removed is true if the fields were removed, false if their values were changed.
	Removed bool
	// Stays is true if the operator leaves the values as they are, and ends only the ownership of a predecessor.
	Stays bool
}

// undone returns the changes of other writers that applying want to live reverts: fields that other managers own with another value. If hadAll
// is true, live had all fields of want before, so that a missing field was removed; Kubernetes does not record by whom. The fields of the
// scale are excluded.
func undone(want *unstructured.Unstructured, live client.Object, hadAll bool) ([]Change, error) {
	changed, missing, err := applyconfigs.Differences(want, live)
	if err != nil {
		return nil, fmt.Errorf("comparing %q with its apply configuration: %w", live.GetName(), err)
	}
	changed = changed.Difference(scaleFields)
	for _, entry := range live.GetManagedFields() {
		if ownership.ManagerOf(entry) == observe.Self {
			ours, err := ownership.FieldsOf(entry)
			if err != nil {
				return nil, err
			}
			changed = changed.Difference(ours) // the MCPServer has changed this field
		}
	}
	var all []Change
	for _, entry := range live.GetManagedFields() {
		manager := ownership.ManagerOf(entry)
		if manager == observe.Self {
			continue
		}
		owned, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		var fields []string
		changed.Intersection(owned).Iterate(func(path fieldpath.Path) { fields = append(fields, path.String()) })
		if len(fields) > 0 {
			all = append(all, Change{Manager: manager.Name, Fields: fields})
		}
	}
	if fields := outermost(missing); hadAll && len(fields) > 0 {
		all = append(all, Change{Manager: Somebody, Fields: fields, Removed: true})
	}
	return all, nil
}

// revertedBySomebody returns the change of a writer that Kubernetes does not record, in a child to which the operator has applied want before.
// It may be a mutating webhook that writes another value each time, or a client that writes faster than the operator looks.
func revertedBySomebody(want *unstructured.Unstructured, live client.Object) ([]Change, error) {
	changed, missing, err := applyconfigs.Differences(want, live)
	if err != nil {
		return nil, fmt.Errorf("comparing %q with its apply configuration: %w", live.GetName(), err)
	}
	fields := outermost(changed.Union(missing))
	if len(fields) == 0 {
		return nil, nil
	}
	return []Change{{Manager: Somebody, Fields: fields}}, nil
}

// outermost returns the paths of the outermost fields of a set, without the fields inside them and without the fields of the scale.
func outermost(set *fieldpath.Set) []string {
	var fields []string
	set.Leaves().Difference(scaleFields).Iterate(func(path fieldpath.Path) {
		end := 1
		for !set.Has(path[:end]) {
			end++
		}
		if field := path[:end].String(); !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	})
	return fields
}
