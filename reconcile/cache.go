package reconcile

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
)

// CachedObjects says what of each kind the cache has to hold: what the decisions of the reconciler need. For other kinds
// than these it is all of them, because an object of a child's name that is someone else's has to be seen as well.
func CachedObjects() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}: {
			Label:     labels.SelectorFromSet(labels.Set{applyconfigs.ManagedByLabel: applyconfigs.FieldManager}),
			Transform: onlyHowPodsAre,
		},
	}
}

// onlyHowPodsAre keeps of a pod what tells how it is.
func onlyHowPodsAre(object any) (any, error) {
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return object, nil // a tombstone
	}
	return &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			Labels: pod.Labels, OwnerReferences: pod.OwnerReferences,
		},
		Status: pod.Status,
	}, nil
}
