package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// entry is the input and output of the tools put and get.
type entry struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

// TestDataSurvives verifies that each pod gets its volume back after a scale-down and scale-up, and after the StatefulSet was recreated
// while its pods stayed.
func TestDataSurvives(t *testing.T) {
	const manifestMore = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}], " +
		"podTemplateSpec: {spec: {containers: [{name: mcp, volumeMounts: [{name: data, mountPath: /data}]}]}}"
	answer := &entry{}
	kept := all(aValueIsKept(answer))
	testEnv.Test(t, feature("the data of a pod", "restricted").
		Setup(volumesFor("data", 2)).
		Assess("is written", all(
			apply(server("web", serverImage, "args: [-stateless, -data=/data]", manifestMore)), scaleIs("web", 1),
			call("web", "put", entry{"a", "kept"}, nil), kept)).
		Assess("survives a scale of 0", all(
			kubectl("scale", "statefulset", "web", "--replicas=0"), scaleIs("web", 0),
			kubectl("scale", "statefulset", "web", "--replicas=1"), scaleIs("web", 1), kept)).
		Assess("survives a recreation of the StatefulSet without its pods", noPodRestarts("web", all(
			theStatefulSetIsReplaced("web"), scaleIs("web", 1), kept))).
		Assess("the recreated StatefulSet keeps its scale", all(
			kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs("web", 2),
			noPodRestarts("web", all(theStatefulSetIsReplaced("web"), scaleIs("web", 2))),
			kubectl("scale", "statefulset", "web", "--replicas=1"), scaleIs("web", 1), kept)).
		Feature())
}

func aValueIsKept(answer *entry) features.Func {
	return all(call("web", "get", entry{Key: "a"}, answer), step(func(_ context.Context, t *testing.T) {
		t.Helper()
		if answer.Value != "kept" {
			t.Fatalf("unexpected value %q", answer.Value)
		}
		*answer = entry{}
	}))
}

// theStatefulSetIsReplaced deletes a StatefulSet with --cascade=orphan, and waits for its replacement.
func theStatefulSetIsReplaced(name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		before := statefulSet(ctx, t, name).UID
		_, err := theCluster.Kubectl(ctx, "-n", in(ctx), "delete", "statefulset", name, "--cascade=orphan")
		must(t, err)
		eventually(ctx, t, "another StatefulSet", func(ctx context.Context) (string, bool) {
			uid := statefulSet(ctx, t, name).UID
			return string(uid), uid != "" && uid != before
		})
	})
}

// volumesFor creates, until the feature ends, the default StorageClass, which has no provisioner, and volumes in folders of node-1.
func volumesFor(purpose string, count int) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		class := &storagev1.StorageClass{
			ObjectMeta:        metav1.ObjectMeta{Name: "local", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
			Provisioner:       "kubernetes.io/no-provisioner",
			VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
		}
		isDeleted := func(object client.Object) features.Func {
			return step(func(ctx context.Context, t *testing.T) {
				must(t, client.IgnoreNotFound(theCluster.Client.Delete(ctx, object)))
			})
		}
		afterwards(isDeleted(class))(ctx, t, nil)
		must(t, theCluster.Client.Create(ctx, class))
		dir := t.TempDir()
		for i := range count {
			path := filepath.Join(dir, fmt.Sprint(i))
			must(t, os.Mkdir(path, 0o755))
			volume := &corev1.PersistentVolume{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%s-%d", in(ctx), purpose, i)},
				Spec: corev1.PersistentVolumeSpec{
					Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
					AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
					StorageClassName:              class.Name,
					PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
					NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
						MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"node-1"}}},
					}}}},
				},
			}
			afterwards(isDeleted(volume))(ctx, t, nil)
			must(t, theCluster.Client.Create(ctx, volume))
		}
	})
}
