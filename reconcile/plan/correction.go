package plan

import (
	"fmt"
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
	// reason is the reason of the step. field describes the field that another writer has changed.
	reason, field string
	// path is the path of the field. If the field has no owner and no description, the MCPServer has changed it, and there is no event.
	path fieldpath.Path
	// patch is the operation that makes the correction.
	patch ownership.Operation
}

// correct plans the first correction that a child needs. The next pass plans the apply.
func (m *maker) correct(step Step) (Step, error) {
	for _, found := range []*correction{m.renumberedPort(step.Live), m.leftStrategy(step), m.strayRecord(step.Live)} {
		if found == nil {
			continue
		}
		if corrected, err := m.correctWith(step, *found); err != nil || corrected.Action != "" {
			return corrected, err
		}
	}
	return Step{}, nil
}

func (m *maker) correctWith(step Step, with correction) (Step, error) {
	owners, err := ownership.OwnersOf(step.Live, with.path)
	if err != nil || ownership.Owns(owners, observe.Self) {
		return Step{}, err // the operator owns the field, so the MCPServer has changed it: the apply removes the old value
	}
	if len(owners) > 0 || with.field != "" {
		change := Change{Manager: Somebody, Fields: []string{with.field}}
		if len(owners) > 0 {
			change.Manager = owners[0].Name
		}
		step.Undoes = []Change{change}
	}
	if step, isFight := m.backOff(step, "another writer reverts the correction each time"); isFight {
		return step, nil
	}
	step.Action, step.Reason = Correct, with.reason
	step.Patch = []ownership.Operation{{Op: "test", Path: "/metadata/resourceVersion", Value: step.Live.GetResourceVersion()}, with.patch}
	return step, nil
}

// leftStrategy finds the parameters of a rolling update in a StatefulSet whose wanted strategy is OnDelete. The API server has set them by
// default, so that they have no owner and an apply does not remove them. The API server rejects them together with OnDelete.
func (m *maker) leftStrategy(step Step) *correction {
	set, isSet := step.Live.(*appsv1.StatefulSet)
	want, isWanted := step.Want.(*appsv1ac.StatefulSetApplyConfiguration)
	if !isSet || !isWanted || want.Spec.UpdateStrategy == nil || want.Spec.UpdateStrategy.Type == nil {
		return nil
	}
	if *want.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType || set.Spec.UpdateStrategy.RollingUpdate == nil {
		return nil
	}
	return &correction{
		reason: "the API server rejects the parameters of a rolling update together with OnDelete",
		path:   fieldpath.MakePathOrDie("spec", "updateStrategy"),
		patch:  ownership.Operation{Op: "replace", Path: "/spec/updateStrategy", Value: map[string]string{"type": string(appsv1.OnDeleteStatefulSetStrategyType)}},
	}
}

// strayRecord finds the annotation of a declaration on a StatefulSet whose scale is delegated. Another writer has set it.
func (m *maker) strayRecord(live client.Object) *correction {
	set, isSet := live.(*appsv1.StatefulSet)
	if !isSet || m.Server.Spec.Replicas != nil {
		return nil
	}
	if _, found := set.Annotations[v1beta1.DeclaredReplicasAnnotation]; !found {
		return nil
	}
	return &correction{
		reason: "spec.replicas is unset, but the StatefulSet has the annotation of a declaration",
		field:  fmt.Sprintf("the annotation %s", v1beta1.DeclaredReplicasAnnotation), path: observe.DeclaredReplicasPath,
		patch: ownership.Operation{Op: "remove", Path: "/metadata/annotations/" + strings.ReplaceAll(v1beta1.DeclaredReplicasAnnotation, "/", "~1")},
	}
}
