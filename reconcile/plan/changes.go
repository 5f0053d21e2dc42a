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

// Somebody stands for a field manager that Kubernetes has not recorded.
const Somebody = "somebody"

// scaleFields have events of their own.
var scaleFields = fieldpath.NewSet(observe.ReplicasPath, observe.DeclaredReplicasPath)

// Change is what somebody else did to fields of the operator's.
type Change struct {
	// Manager is the field manager, or Somebody.
	Manager string
	// Fields are the paths.
	Fields []string
	// Removed is true if the fields are gone, false if they have another value.
	Removed bool
}

// undone returns the fields that applying want would change in live and that others own. If live had all of want
// before, the fields that it lacks were removed; Kubernetes does not record by whom. Those of the scale
// are not among them.
func undone(want *unstructured.Unstructured, live client.Object, hadAll bool) ([]Change, error) {
	changed, missing, err := applyconfigs.Differences(want, live)
	if err != nil {
		return nil, fmt.Errorf("comparing %q with what it should be: %w", live.GetName(), err)
	}
	changed = changed.Difference(scaleFields)
	for _, entry := range live.GetManagedFields() {
		if ownership.ManagerOf(entry) == observe.Self {
			ours, err := ownership.FieldsOf(entry)
			if err != nil {
				return nil, err
			}
			changed = changed.Difference(ours) // it is the MCPServer that changes it
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

// outermost returns the names of fields without those of what is in them, and without those of the scale.
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
