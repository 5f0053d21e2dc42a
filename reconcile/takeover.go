package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// predecessors are the field managers of other operators that run MCPServers. A child that one of them made is of this
// MCPServer, by its controller reference, and is taken over as it is. The operator itself is one of them for what it has
// not applied but patched.
var predecessors = []string{"toolhive-container-manager", applyconfigs.FieldManager}

// migrate makes what a predecessor owns in a child the operator's own, so that a field that the MCPServer drops later
// goes away. No value changes. The given fields are not migrated: nobody owns them afterwards, so that an apply without
// them leaves them as they are. It reports whether there was something to migrate; the apply comes with the next pass.
func (r *Reconciler) migrate(ctx context.Context, p *pass, live client.Object, except ...fieldpath.Path) (bool, error) {
	patch, err := ownership.Migrate(live, predecessors, self, except...)
	if err != nil || patch == nil {
		return false, err
	}
	if err := r.patch(ctx, live, patch); err != nil {
		return false, fmt.Errorf("taking over %q: %w", live.GetName(), err)
	}
	p.wrote, p.migrated = true, true
	return true, nil
}

// somebody stands for a field manager that Kubernetes has not recorded.
const somebody = "somebody"

// scaleFields have events of their own.
var scaleFields = fieldpath.NewSet(replicasPath, annotationPath)

// takeover is what someone else did to fields of the operator's and an apply undoes.
type takeover struct {
	manager string
	fields  []string
	// removed is true when the fields are gone, false when they have another value.
	removed bool
}

// takeovers returns the fields that want would change in live and that others own. When live was settled, which means
// that it had all of want before, those that it lacks were removed; Kubernetes does not record by whom. Those of the scale
// are not among them.
func takeovers(want *unstructured.Unstructured, live client.Object, settled bool) ([]takeover, error) {
	changed, missing, err := applyconfigs.Differences(want, live)
	if err != nil {
		return nil, fmt.Errorf("comparing %q with what it should be: %w", live.GetName(), err)
	}
	changed = changed.Difference(scaleFields)
	for _, entry := range live.GetManagedFields() {
		if ownership.ManagerOf(entry) == self {
			ours, err := ownership.FieldsOf(entry)
			if err != nil {
				return nil, err
			}
			changed = changed.Difference(ours) // it is the MCPServer that changes it
		}
	}
	var all []takeover
	for _, entry := range live.GetManagedFields() {
		manager := ownership.ManagerOf(entry)
		if manager == self {
			continue
		}
		owned, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		var fields []string
		changed.Intersection(owned).Iterate(func(path fieldpath.Path) { fields = append(fields, path.String()) })
		if len(fields) > 0 {
			all = append(all, takeover{manager: manager.Name, fields: fields})
		}
	}
	if fields := outermost(missing); settled && len(fields) > 0 {
		all = append(all, takeover{manager: somebody, fields: fields, removed: true})
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

// recordTakeovers records one event for a child of which values of others were replaced. The child is the related object,
// because events of one reason about the same objects are counted, and only the first of them is told.
func (r *Reconciler) recordTakeovers(server *v1alpha1.MCPServer, kind string, child client.Object, all []takeover) {
	if len(all) == 0 {
		return
	}
	var who []string
	for _, taken := range all {
		what := "changed"
		if taken.removed {
			what = "removed"
		}
		who = append(who, fmt.Sprintf("%s had %s %s", taken.manager, what, strings.Join(taken.fields, ", ")))
	}
	r.eventAbout(server, child, corev1.EventTypeWarning, eventFieldTakenBack, actionApply, fmt.Sprintf(
		"%s of %s %q: set to what the MCPServer asks for. To keep another value, declare it in the MCPServer",
		strings.Join(who, "; "), kind, child.GetName()))
}
