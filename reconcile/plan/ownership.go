package plan

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// Predecessors are the field managers of other operators for MCPServers. The operator takes over the children that they created, if the
// controller reference of the child is this MCPServer. The operator itself is in the list because of the fields that it has patched, not
// applied.
var Predecessors = []string{observe.ToolHiveManager, observe.ToolHiveOperator, applyconfigs.FieldManager}

// migrate plans to move the ownership of fields from predecessors to the operator. Afterwards the scale has no owner, so that an apply without
// the scale does not change it. The next pass plans the apply.
//
// util/csaupgrade of client-go does this for client-side apply. It cannot exclude a field, and would make the operator the owner of the
// scale.
func (m *maker) migrate(step Step) (Step, error) {
	var except []fieldpath.Path
	if step.Kind == observe.KindStatefulSet {
		except = append(except, observe.ReplicasPath)
	}
	patch, err := ownership.Migrate(step.Live, Predecessors, observe.Self, except...)
	if err != nil || patch == nil {
		return Step{}, err
	}
	step.Action, step.Patch, step.Reason = Migrate, patch, "another operator created it"
	if !m.memory.Seen.WasAsAskedFor(m.Server, step.Child, step.Live.GetUID(), step.content) {
		return step, nil
	}
	// It matched the MCPServer before, so that the other operator still runs and writes.
	if step.Undoes, err = undone(unstructuredOf(step.Want), step.Live, false); err != nil {
		return Step{}, err
	}
	if len(step.Undoes) == 0 {
		if step.Undoes, err = written(step.Live); err != nil {
			return Step{}, err
		}
	}
	step, _ = m.backOff(step, "another operator changes it each time this operator restores it")
	return step, nil
}

// written returns the fields that predecessors have written to a child. Their values stay, for example the scale.
func written(live client.Object) ([]Change, error) {
	var all []Change
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource != "" || ownership.ManagerOf(entry) == observe.Self || !slices.Contains(Predecessors, entry.Manager) {
			continue
		}
		owned, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		change := Change{Manager: entry.Manager, Stays: true}
		owned.Leaves().Iterate(func(path fieldpath.Path) { change.Fields = append(change.Fields, path.String()) })
		all = append(all, change)
	}
	return all, nil
}

// repair plans to add an entry of the operator to a child without managedFields. The entry has the wanted fields that the child has. An apply to
// an object without managedFields records its current fields for the manager "before-first-apply", which would then keep fields that the
// MCPServer drops later. For the same reason, repair removes an entry of that manager.
func (m *maker) repair(step Step) (Step, error) {
	// A writer that empties managedFields may write fields in the same request. Then managedFields has an entry of this writer.
	wasApplied := step.Live.GetLabels()[applyconfigs.ManagedByLabel] == applyconfigs.FieldManager
	if !ownership.IsLost(step.Live) && (ownership.Has(step.Live, observe.Self) || !wasApplied) {
		return Step{}, nil
	}
	fields, err := fieldsIn(unstructuredOf(step.Want), step.Live)
	if err != nil {
		return Step{}, err
	}
	if set, isSet := step.Live.(*appsv1.StatefulSet); isSet {
		// The verdict was made without managedFields, and does not count here.
		fields = fields.Difference(fieldpath.NewSet(observe.ReplicasPath))
		if m.scaleWasOurs(set) {
			fields.Insert(observe.ReplicasPath)
		}
	}
	patch, err := ownership.Repair(step.Live, unstructuredOf(step.Want).GetAPIVersion(), observe.Self, fields)
	if err != nil || patch == nil {
		return Step{}, err
	}
	step.Action, step.Patch, step.Reason = Repair, patch, "its managedFields were removed"
	return step, nil
}

// scaleWasOurs reports whether a StatefulSet without managedFields still has the scale that the operator owned and the MCPServer declares.
func (m *maker) scaleWasOurs(set *appsv1.StatefulSet) bool {
	last := m.Server.Status.Scale
	return last != nil && last.Owner == v1beta1.ScaleOwnerMCPServer && ptr.Equal(set.Spec.Replicas, m.Server.Spec.DeclaredReplicas())
}
