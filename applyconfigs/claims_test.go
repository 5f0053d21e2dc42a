package applyconfigs

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// TestChangedClaims: changes by the user are reported, and defaults that the API server has set are not.
func TestChangedClaims(t *testing.T) {
	spec := func(size string, class *string, modes ...corev1.PersistentVolumeAccessMode) corev1.PersistentVolumeClaimSpec {
		return corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		}
	}
	live := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: spec("1Gi", ptr.To("fast"), corev1.ReadWriteOnce, corev1.ReadOnlyMany),
	}
	live.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{live}}}
	claim := func(name string, spec corev1.PersistentVolumeClaimSpec) v1beta1.VolumeClaimTemplate {
		return v1beta1.VolumeClaimTemplate{Metadata: v1beta1.VolumeClaimMetadata{Name: name}, Spec: spec}
	}
	same := spec("1024Mi", ptr.To("fast"), corev1.ReadWriteOnce, corev1.ReadOnlyMany)
	for _, test := range []struct {
		name   string
		wanted []v1beta1.VolumeClaimTemplate
		want   []string
	}{
		{"the same", []v1beta1.VolumeClaimTemplate{claim("data", same)}, nil},
		{"another size", []v1beta1.VolumeClaimTemplate{claim("data", spec("2Gi", ptr.To("fast"), corev1.ReadWriteOnce, corev1.ReadOnlyMany))}, []string{"data"}},
		{"no class any more", []v1beta1.VolumeClaimTemplate{claim("data", spec("1Gi", nil, corev1.ReadWriteOnce, corev1.ReadOnlyMany))}, []string{"data"}},
		{"an access mode less", []v1beta1.VolumeClaimTemplate{claim("data", spec("1Gi", ptr.To("fast"), corev1.ReadWriteOnce))}, []string{"data"}},
		{"one more", []v1beta1.VolumeClaimTemplate{claim("data", same), claim("more", same)}, []string{"more"}},
		{"another name", []v1beta1.VolumeClaimTemplate{claim("other", same)}, []string{"other", "data"}},
		{"none", nil, []string{"data"}},
	} {
		server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{VolumeClaimTemplates: test.wanted}}
		if got := ChangedClaims(server, set); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, wanted %v", test.name, got, test.want)
		}
	}
}
