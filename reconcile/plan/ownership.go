package plan

import (
	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Predecessors are the field managers of other operators that run MCPServers. A child that one of them made belongs to this MCPServer, by
// its controller reference, and is taken over as it is. The operator itself is one of them for what it has not applied but patched.
var Predecessors = []string{"toolhive-container-manager", applyconfigs.FieldManager}

// migrate plans to make what predecessors own the operator's own. Nobody owns the scale afterwards, so that an apply without it leaves
// it as it is. The apply comes with the next pass.
//
// util/csaupgrade of client-go does this for client-side apply. It cannot leave a field out, and would make the operator the owner of the
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
	step.Action, step.Patch, step.Reason = Migrate, patch, "another operator made it"
	if !m.memory.Seen.WasAsAskedFor(m.Server, step.Child, step.Live.GetUID()) {
		return step, nil
	}
	// It was as asked for already: the other operator still runs, and writes.
	if step.Undoes, err = undone(unstructuredOf(step.Want), step.Live, false); err != nil {
		return Step{}, err
	}
	if until := m.backsOff(step); !until.IsZero() {
		step.Action, step.Until, step.Reason = BackOff, until, "another operator changes it each time it is put back"
	}
	return step, nil
}

// repair plans to give a child without managedFields an entry of the operator's, for what it asks for and the child has. An apply to an
// object without managedFields records its present fields for the manager "before-first-apply", which would own for ever what the
// MCPServer drops later. An entry of that manager is removed for the same reason.
func (m *maker) repair(step Step) (Step, error) {
	// Whoever empties the record may write something in the same request, and have an entry then.
	wasApplied := step.Live.GetLabels()[applyconfigs.ManagedByLabel] == applyconfigs.FieldManager
	if !ownership.IsLost(step.Live) && (ownership.Has(step.Live, observe.Self) || !wasApplied) {
		return Step{}, nil
	}
	fields, err := fieldsIn(unstructuredOf(step.Want), step.Live)
	if err != nil {
		return Step{}, err
	}
	if set, isSet := step.Live.(*appsv1.StatefulSet); isSet {
		// Not what the verdict says: it was made without the record.
		fields = fields.Difference(fieldpath.NewSet(observe.ReplicasPath))
		if m.scaleWasOurs(set) {
			fields.Insert(observe.ReplicasPath)
		}
	}
	patch, err := ownership.Repair(step.Live, unstructuredOf(step.Want).GetAPIVersion(), observe.Self, fields)
	if err != nil || patch == nil {
		return Step{}, err
	}
	step.Action, step.Patch, step.Reason = Repair, patch, "somebody has removed the record of who owns its fields"
	return step, nil
}

// scaleWasOurs reports whether a StatefulSet that has lost its managedFields has the scale that the operator declared and owned.
func (m *maker) scaleWasOurs(set *appsv1.StatefulSet) bool {
	last := m.Server.Status.Scale
	return last != nil && last.Owner == v1alpha1.ScaleOwnerMCPServer && ptr.Equal(set.Spec.Replicas, m.Server.Spec.Replicas)
}
