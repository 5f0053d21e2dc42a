package observe

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
)

// CachedObjects returns what the cache holds of each kind. The cache holds only the fields that decisions need. For children
// this includes managedFields, which has the owners of fields. The operator must also see foreign objects with the name of a
// child, and their deletion. Therefore all objects of a kind are watched, but of foreign objects only the identity is kept.
func CachedObjects() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&v1beta1.MCPServer{}:                     {Transform: onlyWhenReported},
		&appsv1.StatefulSet{}:                    {Transform: childOrIdentity[appsv1.StatefulSet]},
		&corev1.Service{}:                        {Transform: childOrIdentity[corev1.Service]},
		&corev1.ServiceAccount{}:                 {Transform: childOrIdentity[corev1.ServiceAccount]},
		&networkingv1.NetworkPolicy{}:            {Transform: childOrIdentity[networkingv1.NetworkPolicy]},
		&policyv1.PodDisruptionBudget{}:          {Transform: childOrIdentity[policyv1.PodDisruptionBudget]},
		&autoscalingv2.HorizontalPodAutoscaler{}: {Transform: onlyWhatIsScaled},
		&corev1.Pod{}: {
			Label:     labels.SelectorFromSet(labels.Set{applyconfigs.ManagedByLabel: applyconfigs.FieldManager}),
			Transform: onlyHowPodsAre,
		},
	}
}

// onlyWhenReported keeps only the time of the last status write of the operator in the managedFields of an MCPServer: see
// ReportedAt.
func onlyWhenReported(object any) (any, error) {
	server, isServer := object.(*v1beta1.MCPServer)
	if !isServer {
		return object, nil // a tombstone
	}
	at := ReportedAt(server)
	server.ManagedFields = nil
	if at != nil {
		server.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: Reporter.Name, Operation: Reporter.Operation, Subresource: Reporter.Subresource, Time: at}}
	}
	return server, nil
}

// childOrIdentity keeps the children of MCPServers unchanged, and the identity of other objects: the fields that messages use.
func childOrIdentity[O any, P interface {
	*O
	client.Object
}](object any) (any, error) {
	live, isObject := object.(P)
	if !isObject {
		return object, nil // a tombstone
	}
	if isChild(live) {
		return live, nil
	}
	identity := P(new(O))
	identity.SetNamespace(live.GetNamespace())
	identity.SetName(live.GetName())
	identity.SetUID(live.GetUID())
	identity.SetResourceVersion(live.GetResourceVersion())
	identity.SetDeletionTimestamp(live.GetDeletionTimestamp())
	identity.SetOwnerReferences(live.GetOwnerReferences())
	var managers []metav1.ManagedFieldsEntry
	for _, entry := range live.GetManagedFields() {
		managers = append(managers, metav1.ManagedFieldsEntry{Manager: entry.Manager})
	}
	identity.SetManagedFields(managers)
	if by, found := live.GetLabels()[applyconfigs.ManagedByLabel]; found {
		identity.SetLabels(map[string]string{applyconfigs.ManagedByLabel: by})
	}
	return identity, nil
}

// onlyWhatIsScaled keeps the spec, the owner references and the used status of an autoscaler.
func onlyWhatIsScaled(object any) (any, error) {
	hpa, isAutoscaler := object.(*autoscalingv2.HorizontalPodAutoscaler)
	if !isAutoscaler {
		return object, nil // a tombstone
	}
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: hpa.Namespace, Name: hpa.Name, UID: hpa.UID, ResourceVersion: hpa.ResourceVersion,
			OwnerReferences: hpa.OwnerReferences,
		},
		Spec:   hpa.Spec,
		Status: onlyWhatIsLookedAt(hpa),
	}, nil
}

// onlyHowPodsAre keeps the fields of a pod that a diagnosis needs. Of a serving pod without a problem it keeps only that it is ready.
func onlyHowPodsAre(object any) (any, error) {
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return object, nil // a tombstone
	}
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			OwnerReferences: pod.OwnerReferences, DeletionTimestamp: pod.DeletionTimestamp, Finalizers: pod.Finalizers,
		},
		Spec: corev1.PodSpec{NodeName: pod.Spec.NodeName},
	}
	if worthALook(pod) {
		kept.CreationTimestamp, kept.Spec.ReadinessGates, kept.Status = pod.CreationTimestamp, pod.Spec.ReadinessGates, pod.Status
		return kept, nil
	}
	kept.Status.Conditions = servingConditions
	return kept, nil
}

// servingConditions are the conditions that are kept of a serving pod. All serving pods share them.
var servingConditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}

// Reporter is the operator as the field manager of the status of MCPServers.
var Reporter = ownership.Manager{
	Name: applyconfigs.FieldManager, Operation: metav1.ManagedFieldsOperationApply, Subresource: "status",
}

// ReportedAt returns when the operator last wrote the status of an MCPServer; nil if it has not.
func ReportedAt(server client.Object) *metav1.Time {
	for _, entry := range server.GetManagedFields() {
		if ownership.ManagerOf(entry) == Reporter {
			return entry.Time
		}
	}
	return nil
}
