package plan

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// withoutCommand returns the apply configuration of the StatefulSet of a server whose command is unknown: it keeps the pod template, and everything else is
// as the MCPServer declares. It returns nil if there is no pod template of the operator to keep.
func (m *maker) withoutCommand(
	live *appsv1.StatefulSet, cluster applyconfigs.Cluster, from uint64,
) (*appsv1ac.StatefulSetApplyConfiguration, built, error) {
	is := built{from: from, lacksCommand: true}
	if live == nil {
		return nil, is, nil
	}
	owned, err := appsv1ac.ExtractStatefulSet(live, applyconfigs.FieldManager)
	if err != nil || owned.Spec == nil || owned.Spec.Template == nil {
		return nil, is, nil //nolint:nilerr // another writer wrote what the schema does not allow, or another operator made the template
	}
	want, err := applyconfigs.StatefulSetWith(owned.Spec.Template, m.Server, m.verdict.Apply, m.Fixed)
	if err != nil {
		return nil, is, err
	}
	for _, record := range []string{v1beta1.PodTemplateAnnotation, v1beta1.PodTemplateUpdateAnnotation, v1beta1.ImageAnnotation} {
		if value, isOwned := owned.Annotations[record]; isOwned {
			want.WithAnnotations(map[string]string{record: value})
		}
	}
	isCurrent, err := applyconfigs.IsOfSameInputs(m.Server, m.Fixed, live)
	if err != nil || !isCurrent || m.settings.UpdateTemplates {
		return want, is, err
	}
	recorded, _ := applyconfigs.TemplateRecordIn(live.Annotations, v1beta1.PodTemplateAnnotation)
	version := applyconfigs.TemplateVersion(m.Server, cluster)
	if recorded.Version() == version {
		is.lacksCommand = false // the pod template is what the MCPServer asks for
	} else if m.Server.Annotations[v1beta1.UpdatePodTemplateAnnotation] != version {
		is.lacksCommand, is.update = false, &Update{From: recorded.Version(), To: version}
	}
	return want, is, nil
}

// whyNoCommand returns the reason of a step that waits for the command of the server.
func (m *maker) whyNoCommand() string {
	if m.Image.Reference != "" && m.Image.Err == nil {
		return fmt.Sprintf("the operator looks up the command of image %.200q in its registry", m.Image.Reference)
	}
	if m.Image.Err != nil {
		return fmt.Sprintf("%s, and not readable from image %.200q: %s", applyconfigs.ErrCommandUnknown, m.Image.Reference, m.Image.Err)
	}
	return applyconfigs.ErrCommandUnknown.Error()
}
