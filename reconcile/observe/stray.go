package observe

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
)

// mayHaveStrayPods reports whether it is worth a list on the API server to look for stray pods: this MCPServer had a StatefulSet, or the cache
// has such pods.
func (r *Reader) mayHaveStrayPods(ctx context.Context, s *Snapshot) (bool, error) {
	set := Child{KindStatefulSet, applyconfigs.StatefulSetName(s.Server.Name)}
	if s.Server.Status.Scale != nil || r.Seen.WasThere(s.Server, set) {
		return true, nil
	}
	cached, err := r.podsNamed(ctx, s.Server.Namespace, set.Name)
	return len(cached) > 0, err
}

// strayPods returns the pods of a deleted StatefulSet that are not being deleted. If the new StatefulSet is created before the garbage collector
// notices the deletion of the old one, and the watch of the garbage collector is interrupted at that time, the garbage collector never
// notices the deletion. Then the old pods stay and prevent the creation of the new pods.
func (r *Reader) strayPods(ctx context.Context, s *Snapshot) ([]string, error) {
	set := Child{KindStatefulSet, applyconfigs.StatefulSetName(s.Server.Name)}
	if s.IsForeign(set) {
		return nil, nil
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := r.APIReader.List(ctx, pods, client.InNamespace(s.Server.Namespace), client.MatchingLabels(s.Fixed.PodLabels))
	if err != nil {
		return nil, fmt.Errorf("listing the pods of the deleted %s: %w", set, err)
	}
	var stray []string
	for i := range pods.Items {
		owner := metav1.GetControllerOfNoCopy(&pods.Items[i])
		if owner != nil && isOf(owner, statefulSetKind) && owner.Name == set.Name && pods.Items[i].DeletionTimestamp.IsZero() {
			stray = append(stray, pods.Items[i].Name)
		}
	}
	if len(stray) == 0 {
		return nil, nil
	}
	err = r.APIReader.Get(ctx, client.ObjectKey{Namespace: s.Server.Namespace, Name: set.Name}, &appsv1.StatefulSet{})
	switch {
	case err == nil:
		return nil, staleCache(set.Name)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading %s again: %w", set, err)
	}
	slices.Sort(stray)
	return stray, nil
}
