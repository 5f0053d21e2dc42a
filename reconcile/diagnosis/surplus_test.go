package diagnosis

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSurplus(t *testing.T) {
	got := Surplus("team", 4, []string{"web-3"}, []string{"web-5", "web-6"}, &Finding{PodNotCreated, "the quota is full"})
	const want = "pods web-5 and web-6 are above the scale of 4. Kubernetes does not delete such pods while it cannot create web-3 (kubernetes/kubernetes#140858). " +
		"Run: kubectl -n team delete pod web-5 web-6; the quota is full"
	if got.Reason != SurplusPods || got.Message != want {
		t.Errorf("got %v", got)
	}
}

// TestSurplusIsBounded verifies that the message is short even if hundreds of pods are surplus.
func TestSurplusIsBounded(t *testing.T) {
	var surplus []string
	for ordinal := range int32(300) {
		surplus = append(surplus, nameOf("web", 4+ordinal))
	}
	got := Surplus("team", 4, []string{"web-3"}, surplus, nil).Message
	if len(got) > 1000 || !strings.HasSuffix(got, "web-302 web-303; then delete 280 more in the same way") {
		t.Errorf("got %s", got)
	}
}

// TestOutOfPlace verifies that pods are compared by ordinal. A pod that is being deleted is neither missing nor surplus.
func TestOutOfPlace(t *testing.T) {
	named := func(names ...string) (pods []*corev1.Pod) {
		for _, name := range names {
			pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		return pods
	}
	leaving := named("web-0", "web-9", "web-12")
	leaving[0].DeletionTimestamp, leaving[1].DeletionTimestamp = &metav1.Time{Time: now}, &metav1.Time{Time: now}
	for name, test := range map[string]struct {
		scale, first     int32
		pods             []*corev1.Pod
		missing, surplus []string
	}{
		"as asked for":                {2, 0, named("web-0", "web-1"), nil, nil},
		"too few":                     {3, 0, named("web-1"), []string{"web-0", "web-2"}, nil},
		"too many":                    {1, 0, named("web-11", "web-0", "web-2"), nil, []string{"web-2", "web-11"}},
		"as many, but others":         {2, 0, named("web-1", "web-2"), []string{"web-0"}, []string{"web-2"}},
		"numbered from 5":             {2, 5, named("web-4", "web-5"), []string{"web-6"}, []string{"web-4"}},
		"some are being deleted":      {1, 0, leaving, nil, []string{"web-12"}},
		"scaled to 0":                 {0, 0, named("web-0"), nil, []string{"web-0"}},
		"a pod that somebody adopted": {1, 0, named("web-0", "other", "web-x"), nil, nil},
	} {
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
		set.Spec.Replicas = &test.scale
		if test.first > 0 {
			set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: test.first}
		}
		missing, surplus := OutOfPlace(set, test.pods)
		if !slices.Equal(missing, test.missing) || !slices.Equal(surplus, test.surplus) {
			t.Errorf("%s: missing %v, surplus %v", name, missing, surplus)
		}
	}
}
