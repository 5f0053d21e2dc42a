package reconcile

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
)

// strayPods returns the pods of a StatefulSet that was deleted which nobody has begun to delete. One that is created before the
// garbage collector has noticed that the other one is gone hides that from it, if its watch was cut meanwhile: the pods stay,
// belong to what is gone, and keep the new ones from being created, for good.
func (r *Reconciler) strayPods(ctx context.Context, p *pass) ([]string, error) {
	name := applyconfigs.StatefulSetName(p.server.Name)
	key := childKey{kind: reflect.TypeFor[*appsv1.StatefulSet](), name: name}
	if p.server.Status.Scale == nil && !r.settled.wasThere(p.server, key) {
		return nil, nil // there was none before, as far as this MCPServer goes
	}
	if p.refused(statefulSetKind.Kind, name) {
		return nil, nil
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := r.APIReader.List(ctx, pods, client.InNamespace(p.server.Namespace), client.MatchingLabels(p.fixed.PodLabels))
	if err != nil {
		return nil, fmt.Errorf("listing the pods of StatefulSet %q, which was deleted: %w", name, err)
	}
	var stray []string
	for i := range pods.Items {
		owner := metav1.GetControllerOfNoCopy(&pods.Items[i])
		if owner != nil && isOf(owner, statefulSetKind) && owner.Name == name && pods.Items[i].DeletionTimestamp.IsZero() {
			stray = append(stray, pods.Items[i].Name)
		}
	}
	if len(stray) == 0 {
		return nil, nil
	}
	err = r.APIReader.Get(ctx, client.ObjectKey{Namespace: p.server.Namespace, Name: name}, &appsv1.StatefulSet{})
	switch {
	case err == nil:
		return nil, staleCache(name)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading StatefulSet %q again: %w", name, err)
	}
	slices.Sort(stray)
	return stray, nil
}
