package observe

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// podOf returns a pod with the labels of MCPServer web that a StatefulSet controls.
func podOf(apiVersion, set string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "team", Name: "web-0", Labels: applyconfigs.SelectorLabels("web"),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersion, Kind: "StatefulSet", Name: set, UID: "old", Controller: ptr.To(true)}},
	}}
}

func TestStrayPodsAreThoseOfADeletedStatefulSetThatNobodyDeletes(t *testing.T) {
	marked := podOf("apps/v1", "web")
	marked.DeletionTimestamp, marked.Finalizers = ptr.To(metav1.Now()), []string{"example.com/hold"}
	orphan := podOf("apps/v1", "web")
	orphan.OwnerReferences = nil
	scaled := &v1beta1.ScaleStatus{Replicas: 1}
	for name, c := range map[string]struct {
		pod     *corev1.Pod
		scale   *v1beta1.ScaleStatus
		created bool // by this operator, which has not written the status yet
		foreign bool
		stray   bool
	}{
		"of a StatefulSet in the status":         {pod: podOf("apps/v1", "web"), scale: scaled, stray: true},
		"of a StatefulSet that was just created": {pod: podOf("apps/v1", "web"), created: true, stray: true},
		"of an earlier MCPServer of this name":   {pod: podOf("apps/v1", "web"), stray: true},
		"being deleted":                          {pod: marked, scale: scaled},
		"without an owner":                       {pod: orphan, scale: scaled},
		"of another StatefulSet":                 {pod: podOf("apps/v1", "other"), scale: scaled},
		"of another kind of StatefulSet":         {pod: podOf("apps.kruise.io/v1beta1", "web"), scale: scaled},
		"the StatefulSet has another owner":      {pod: podOf("apps/v1", "web"), scale: scaled, foreign: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := strayPass(t, c.pod)
			p.Server.Status.Scale = c.scale
			if c.created {
				r.Seen.Created(p.Server, Child{KindStatefulSet, "web"})
			}
			if c.foreign {
				p.Foreign = []Foreign{{Child: Child{KindStatefulSet, "web"}}}
			}
			stray, err := r.strayPods(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Equal(stray, []string{"web-0"}); got != c.stray {
				t.Errorf("the stray pods are %v; wanted a stray pod: %t", stray, c.stray)
			}
		})
	}
}

// TestNoPodIsStrayWhoseStatefulSetIsThere verifies that a pass returns a conflict if the StatefulSet exists and only the cache does not show it.
func TestNoPodIsStrayWhoseStatefulSetIsThere(t *testing.T) {
	r, p := strayPass(t, podOf("apps/v1", "web"), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}})
	p.Server.Status.Scale = &v1beta1.ScaleStatus{Replicas: 1}
	if stray, err := r.strayPods(t.Context(), p); !apierrors.IsConflict(err) {
		t.Errorf("got %v, %v, wanted a conflict", stray, err)
	}
}

// strayPass returns a pass over MCPServer web on an API server with the given objects.
func strayPass(t *testing.T, objects ...client.Object) (*Reader, *Snapshot) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "1"}}
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	cached := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&corev1.Pod{}, podIndex, func(pod client.Object) []string {
			if owner := metav1.GetControllerOf(pod); owner != nil {
				return []string{owner.Name}
			}
			return nil
		}).Build()
	return &Reader{Client: cached, APIReader: live, Seen: &Seen{}}, &Snapshot{Server: server, Fixed: fixed}
}
