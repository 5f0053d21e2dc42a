package reconcile

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// observeOrphans looks for pods that a deleted StatefulSet left behind (kubectl delete --cascade=orphan). The next one
// adopts them, and would delete those above its scale. More of them than the StatefulSet had pods when it was last seen
// mean that it was scaled up while nobody looked; then the result is the scale that keeps them all. Otherwise the scale
// last seen is the better witness, and the result is nil.
func (r *Reconciler) observeOrphans(ctx context.Context, server *v1alpha1.MCPServer) (*int32, error) {
	// Uncached: this happens once in the life of a StatefulSet, and a cache of all pods would cost memory for good.
	var pods corev1.PodList
	err := r.APIReader.List(ctx, &pods, client.InNamespace(server.Namespace),
		client.MatchingLabels(applyconfigs.SelectorLabels(server.Name)))
	if err != nil {
		return nil, fmt.Errorf("looking for pods that the StatefulSet left behind: %w", err)
	}
	return orphanScale(pods.Items, applyconfigs.StatefulSetName(server.Name), server.Status.Replicas), nil
}

// orphanScale returns the number of replicas that keeps every orphan among pods, if that is more than were seen.
func orphanScale(pods []corev1.Pod, statefulSet string, seen int32) *int32 {
	var scale int32
	for i := range pods {
		pod := &pods[i]
		if metav1.GetControllerOf(pod) != nil || !pod.DeletionTimestamp.IsZero() {
			continue
		}
		ordinal, found := strings.CutPrefix(pod.Name, statefulSet+"-")
		if !found {
			continue
		}
		if n, err := strconv.ParseInt(ordinal, 10, 32); err == nil && n >= 0 {
			scale = max(scale, int32(n)+1)
		}
	}
	if scale <= seen {
		return nil
	}
	return &scale
}
