package plan

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// correction is a change that an apply cannot make, because the API server merges the applied fields with fields of other owners, or with a
// default value that has no owner.
type correction struct {
	// reason is the reason of the step.
	reason string
	// undoes are the changes of other writers that the correction reverts; none if the MCPServer has changed.
	undoes []Change
	// patch is the operation that makes the correction.
	patch ownership.Operation
}

// correct plans the first correction that a child needs. The next pass plans the apply.
func (m *maker) correct(step Step) (Step, error) {
	for _, find := range []func(Step) (*correction, error){m.renumberedPort, m.leftStrategy, m.strayRecord} {
		found, err := find(step)
		if err != nil {
			return Step{}, err
		}
		if found == nil {
			continue
		}
		step.Undoes = found.undoes
		if step, isFight := m.backOff(step, "another writer reverts the correction each time"); isFight {
			return step, nil
		}
		step.Action, step.Reason = Correct, found.reason
		step.Patch = []ownership.Operation{{Op: "test", Path: "/metadata/resourceVersion", Value: step.Live.GetResourceVersion()}, found.patch}
		return step, nil
	}
	return Step{}, nil
}

// changeOf returns the change of another writer to a field, which the text describes. It reports false if the operator owns the field: then
// the MCPServer has changed it, and the apply removes the old value.
func changeOf(live client.Object, path fieldpath.Path, text string) (Change, bool, error) {
	owners, err := ownership.OwnersOf(live, path)
	if err != nil || ownership.Owns(owners, observe.Self) {
		return Change{}, false, err
	}
	change := Change{Manager: Somebody, Fields: []string{text}}
	if len(owners) > 0 {
		change.Manager = owners[0].Name
	}
	return change, true, nil
}

// The fields of the update strategy of a StatefulSet that may have owners.
var strategyPaths = []fieldpath.Path{
	fieldpath.MakePathOrDie("spec", "updateStrategy", "type"),
	fieldpath.MakePathOrDie("spec", "updateStrategy", "rollingUpdate", "partition"),
	fieldpath.MakePathOrDie("spec", "updateStrategy", "rollingUpdate", "maxUnavailable"),
}

// leftStrategy finds the parameters of a rolling update in a StatefulSet whose wanted strategy is OnDelete. The API server rejects them together
// with OnDelete. After a change of the MCPServer, an apply does not remove the parameters that the API server has set by default, because
// they have no owner.
func (m *maker) leftStrategy(step Step) (*correction, error) {
	set, isSet := step.Live.(*appsv1.StatefulSet)
	want, isWanted := step.Want.(*appsv1ac.StatefulSetApplyConfiguration)
	if !isSet || !isWanted || want.Spec.UpdateStrategy == nil || want.Spec.UpdateStrategy.Type == nil {
		return nil, nil
	}
	if *want.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType || set.Spec.UpdateStrategy.RollingUpdate == nil {
		return nil, nil
	}
	found := &correction{
		reason: "the API server rejects the parameters of a rolling update together with OnDelete",
		patch:  ownership.Operation{Op: "replace", Path: "/spec/updateStrategy", Value: map[string]string{"type": string(appsv1.OnDeleteStatefulSetStrategyType)}},
	}
	for _, path := range strategyPaths {
		owners, err := ownership.OwnersOf(set, path)
		if err != nil {
			return nil, err
		}
		for _, owner := range owners {
			isNew := !slices.ContainsFunc(found.undoes, func(change Change) bool { return change.Manager == owner.Name })
			if owner.Manager != observe.Self && isNew {
				found.undoes = append(found.undoes, Change{Manager: owner.Name, Fields: []string{".spec.updateStrategy"}})
			}
		}
	}
	return found, nil
}

// strayRecord finds the annotation of a declaration on a StatefulSet whose scale is delegated. Another writer has set it.
func (m *maker) strayRecord(step Step) (*correction, error) {
	set, isSet := step.Live.(*appsv1.StatefulSet)
	if !isSet || m.Server.Spec.DeclaredReplicas() != nil {
		return nil, nil
	}
	if _, found := set.Annotations[v1beta1.DeclaredReplicasAnnotation]; !found {
		return nil, nil
	}
	change, isTheirs, err := changeOf(set, observe.DeclaredReplicasPath, "the annotation "+v1beta1.DeclaredReplicasAnnotation)
	if err != nil || !isTheirs {
		return nil, err
	}
	return &correction{
		reason: "spec.replicas is unset, but the StatefulSet has the annotation of a declaration", undoes: []Change{change},
		patch: ownership.Operation{Op: "remove", Path: "/metadata/annotations/" + strings.ReplaceAll(v1beta1.DeclaredReplicasAnnotation, "/", "~1")},
	}, nil
}
