package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// Update is a new pod template that the operator has not applied, because it would restart pods without a request of the user.
type Update struct {
	// From is the version of the pod template of the StatefulSet. To is the version of this operator.
	From, To string
	// Fields are the paths of the fields that would change; empty if the new pod template is unknown, because the command of the server is unknown.
	Fields []string
}

// keepTemplate keeps the pod template of a StatefulSet if an operator of another revision made it, so that an upgrade of the operator does not
// restart pods. The operator applies the new template with the next change of the pod template, if the user requests it, or if another
// writer has changed a field of the operator in the template, which restarts pods anyway. It returns the update that is not applied; nil if
// there is none.
func (m *maker) keepTemplate(want *appsv1ac.StatefulSetApplyConfiguration, live *appsv1.StatefulSet) (*Update, error) {
	made, _ := applyconfigs.TemplateRecordIn(want.Annotations, v1beta1.PodTemplateAnnotation)
	kept, owned, err := m.templateToKeep(made, live)
	if err != nil || kept == nil {
		return nil, err
	}
	fields, err := templateChanges(want, owned, live)
	if err != nil {
		return nil, err
	}
	want.Spec.Template = owned.Spec.Template
	want.WithAnnotations(map[string]string{
		v1beta1.PodTemplateAnnotation: kept.String(), v1beta1.PodTemplateUpdateAnnotation: made.String(),
	})
	return &Update{From: kept.Version(), To: made.Version(), Fields: fields}, nil
}

// templateToKeep returns the record of the pod template to keep, and the fields that the operator owns in the StatefulSet; nil if the new
// template is applied.
func (m *maker) templateToKeep(made applyconfigs.TemplateRecord, live *appsv1.StatefulSet) (*applyconfigs.TemplateRecord, *appsv1ac.StatefulSetApplyConfiguration, error) {
	if live == nil || m.settings.UpdateTemplates ||
		m.Server.Annotations[v1beta1.UpdatePodTemplateAnnotation] == made.Version() {
		return nil, nil, nil
	}
	recorded, isRecorded := applyconfigs.TemplateRecordIn(live.Annotations, v1beta1.PodTemplateAnnotation)
	if recorded.Version() == made.Version() || (!isRecorded && live.Labels[applyconfigs.ManagedByLabel] != applyconfigs.FieldManager) {
		return nil, nil, nil // the same revision; or the template of another operator
	}
	owned, err := appsv1ac.ExtractStatefulSet(live, applyconfigs.FieldManager)
	if err != nil || owned.Spec == nil || owned.Spec.Template == nil {
		return nil, nil, nil //nolint:nilerr // another writer wrote what the schema does not allow: the apply corrects it
	}
	digest, err := applyconfigs.TemplateDigest(owned.Spec.Template)
	if err != nil {
		return nil, nil, err
	}
	isChanged := isRecorded && recorded.Digest != digest
	if isChanged || digest == made.Digest || m.isEdited(made, recorded, live) {
		return nil, nil, nil
	}
	return &applyconfigs.TemplateRecord{Revision: recorded.Revision, Digest: digest, Inputs: made.Inputs, Runner: recorded.Runner}, owned, nil
}

// isEdited reports whether the user has changed something that affects the pod template since it was applied. Once this revision has recorded
// what it builds, the digest of its present pod template decides. Before, right after an upgrade, the digest of the MCPServer decides, which
// does not depend on the revision. Without it, the status decides: whether the operator has carried out the present generation.
func (m *maker) isEdited(made, recorded applyconfigs.TemplateRecord, live *appsv1.StatefulSet) bool {
	if before, isRecorded := applyconfigs.TemplateRecordIn(live.Annotations, v1beta1.PodTemplateUpdateAnnotation); isRecorded && before.Version() == made.Version() {
		return before.Digest != made.Digest
	}
	if recorded.Inputs != "" {
		return recorded.Inputs != made.Inputs
	}
	status := m.Server.Status
	return status.ObservedGeneration != m.Server.Generation || apimeta.IsStatusConditionTrue(status.Conditions, v1beta1.ConditionStalled)
}

// templateChanges returns the sorted paths in the pod template that applying want changes.
func templateChanges(want, owned *appsv1ac.StatefulSetApplyConfiguration, live *appsv1.StatefulSet) ([]string, error) {
	after, before := unstructuredOf(want), unstructuredOf(owned)
	changed, missing, err := applyconfigs.Differences(after, live)
	if err != nil {
		return nil, err
	}
	wanted, err := applyconfigs.FieldsOf(after)
	if err != nil {
		return nil, &InvalidSpecError{err}
	}
	had, err := applyconfigs.FieldsOf(before)
	if err != nil {
		return nil, fmt.Errorf("reading the fields that the operator owns in %q: %w", live.Name, err)
	}
	var fields []string
	for _, set := range []*fieldpath.Set{changed, missing, had.Difference(wanted)} {
		fields = append(fields, outermost(set)...)
	}
	fields = slices.DeleteFunc(fields, func(path string) bool { return !strings.HasPrefix(path, ".spec.template") })
	if len(fields) == 0 {
		return []string{"the order of entries in .spec.template"}, nil
	}
	slices.SortFunc(fields, cmp.Compare[string])
	return slices.Compact(fields), nil
}
