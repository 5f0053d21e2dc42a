package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// Update is a pod template that the operator makes and has not applied, because that would restart pods and nobody has asked for it.
type Update struct {
	// From is the revision of the pod template that the StatefulSet has, To the one of this operator.
	From, To int
	// Fields are the paths that would change.
	Fields []string
}

// keepTemplate leaves the pod template of a StatefulSet as it is if an operator of another revision has made it, so that an upgrade of the
// operator restarts no pod. It applies the new one with the first change that reaches the pod template, if the user asks for it, or if
// somebody has changed a field of the operator's in it, which restarts pods anyway. It returns what is not applied; nil if all is.
func (m *maker) keepTemplate(want *appsv1ac.StatefulSetApplyConfiguration, live *appsv1.StatefulSet) (*Update, error) {
	digest, err := applyconfigs.TemplateDigest(want.Spec.Template)
	if err != nil {
		return nil, err
	}
	made := applyconfigs.TemplateRecord{Revision: applyconfigs.TemplateRevision, Digest: digest}
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
		v1alpha1.PodTemplateAnnotation: kept.String(), v1alpha1.PodTemplateUpdateAnnotation: made.String(),
	})
	return &Update{From: kept.Revision, To: made.Revision, Fields: fields}, nil
}

// templateToKeep returns what the operator owns in a StatefulSet whose pod template is kept, and the record of that template; nil if the
// one that is made is applied.
func (m *maker) templateToKeep(made applyconfigs.TemplateRecord, live *appsv1.StatefulSet) (*applyconfigs.TemplateRecord, *appsv1ac.StatefulSetApplyConfiguration, error) {
	if live == nil || m.settings.UpdateTemplates ||
		m.Server.Annotations[v1alpha1.UpdatePodTemplateAnnotation] == strconv.Itoa(made.Revision) {
		return nil, nil, nil
	}
	recorded, isRecorded := applyconfigs.TemplateRecordIn(live, v1alpha1.PodTemplateAnnotation)
	if recorded.Revision == made.Revision || (!isRecorded && live.Labels[applyconfigs.ManagedByLabel] != applyconfigs.FieldManager) {
		return nil, nil, nil // as always; or another operator has made it
	}
	owned, err := appsv1ac.ExtractStatefulSet(live, applyconfigs.FieldManager)
	if err != nil || owned.Spec == nil || owned.Spec.Template == nil {
		return nil, nil, nil //nolint:nilerr // somebody wrote what the schema does not allow: it is put right
	}
	digest, err := applyconfigs.TemplateDigest(owned.Spec.Template)
	if err != nil {
		return nil, nil, err
	}
	isChanged := isRecorded && recorded.Digest != digest
	if isChanged || digest == made.Digest || m.isEdited(made, live) {
		return nil, nil, nil
	}
	return &applyconfigs.TemplateRecord{Revision: recorded.Revision, Digest: digest}, owned, nil
}

// isEdited reports whether the user has changed something that reaches the pod template since it was applied. What this revision makes is
// compared with what it made before. Nothing of that is known after an upgrade: then it counts whether the status says that the present
// generation was carried out.
func (m *maker) isEdited(made applyconfigs.TemplateRecord, live *appsv1.StatefulSet) bool {
	if before, isRecorded := applyconfigs.TemplateRecordIn(live, v1alpha1.PodTemplateUpdateAnnotation); isRecorded && before.Revision == made.Revision {
		return before.Digest != made.Digest
	}
	status := m.Server.Status
	return status.ObservedGeneration != m.Server.Generation || apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled)
}

// templateChanges are the paths of a pod template that applying want changes, in order.
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
		return nil, fmt.Errorf("reading what the operator owns in %q: %w", live.Name, err)
	}
	var fields []string
	for _, set := range []*fieldpath.Set{changed, missing, had.Difference(wanted)} {
		fields = append(fields, outermost(set)...)
	}
	fields = slices.DeleteFunc(fields, func(path string) bool { return !strings.HasPrefix(path, ".spec.template") })
	slices.SortFunc(fields, cmp.Compare[string])
	return slices.Compact(fields), nil
}
