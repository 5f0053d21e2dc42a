package applyconfigs

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// ChangedClaims returns the names of the volumeClaimTemplates that were added, removed or changed in an MCPServer since
// its StatefulSet was created. The volumeClaimTemplates of a StatefulSet are immutable.
func ChangedClaims(server *v1beta1.MCPServer, live *appsv1.StatefulSet) []string {
	var changed []string
	for _, wanted := range server.Spec.VolumeClaimTemplates {
		i := slices.IndexFunc(live.Spec.VolumeClaimTemplates, func(claim corev1.PersistentVolumeClaim) bool {
			return claim.Name == wanted.Metadata.Name
		})
		if i < 0 || !isClaim(wanted, &live.Spec.VolumeClaimTemplates[i]) {
			changed = append(changed, wanted.Metadata.Name)
		}
	}
	for i := range live.Spec.VolumeClaimTemplates {
		name := live.Spec.VolumeClaimTemplates[i].Name
		if !slices.ContainsFunc(server.Spec.VolumeClaimTemplates, func(wanted v1beta1.VolumeClaimTemplate) bool {
			return wanted.Metadata.Name == name
		}) {
			changed = append(changed, name)
		}
	}
	return changed
}

func isClaim(wanted v1beta1.VolumeClaimTemplate, live *corev1.PersistentVolumeClaim) bool {
	spec := *wanted.Spec.DeepCopy()
	if spec.VolumeMode == nil {
		spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem) // the only default that the API server sets in a template
	}
	return equality.Semantic.DeepEqual(spec, live.Spec) &&
		equality.Semantic.DeepEqual(wanted.Metadata.Labels, live.Labels) &&
		equality.Semantic.DeepEqual(wanted.Metadata.Annotations, live.Annotations)
}
