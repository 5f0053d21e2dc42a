package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// targetIndex is the index of autoscalers by what they scale: GROUP/KIND/NAME.
const targetIndex = "scaleTarget"

// IndexAutoscalers makes the autoscalers of a target a lookup in the cache.
func IndexAutoscalers(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, targetIndex,
		func(object client.Object) []string {
			hpa, ok := object.(*autoscalingv2.HorizontalPodAutoscaler)
			if !ok {
				return nil
			}
			return []string{targetOf(hpa)}
		})
	if err != nil {
		return fmt.Errorf("indexing the autoscalers: %w", err)
	}
	return nil
}

// targetOf names what an autoscaler scales. The version of the API does not matter.
func targetOf(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	ref := hpa.Spec.ScaleTargetRef
	return targetName(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind(), ref.Name)
}

func targetName(kind schema.GroupKind, name string) string {
	return kind.Group + "/" + kind.Kind + "/" + name
}

// Autoscalers are the HorizontalPodAutoscalers that scale an MCPServer, by what they target; each in order of name.
type Autoscalers struct {
	// OfStatefulSet write the scale of the StatefulSet.
	OfStatefulSet []autoscalingv2.HorizontalPodAutoscaler
	// OfMCPServer write spec.replicas of the MCPServer: they declare.
	OfMCPServer []autoscalingv2.HorizontalPodAutoscaler
}

// readAutoscalers finds the autoscalers of an MCPServer.
func (r *Reader) readAutoscalers(ctx context.Context, server *v1alpha1.MCPServer) (Autoscalers, error) {
	find := func(kind schema.GroupKind, name string) ([]autoscalingv2.HorizontalPodAutoscaler, error) {
		var list autoscalingv2.HorizontalPodAutoscalerList
		err := r.Client.List(ctx, &list, client.InNamespace(server.Namespace),
			client.MatchingFields{targetIndex: targetName(kind, name)})
		if err != nil {
			return nil, fmt.Errorf("listing the autoscalers of %s %q: %w", kind.Kind, name, err)
		}
		slices.SortFunc(list.Items, func(a, b autoscalingv2.HorizontalPodAutoscaler) int {
			return strings.Compare(a.Name, b.Name)
		})
		return list.Items, nil
	}
	var found Autoscalers
	var err error
	if found.OfStatefulSet, err = find(statefulSetKind, applyconfigs.StatefulSetName(server.Name)); err != nil {
		return found, err
	}
	found.OfMCPServer, err = find(mcpServerKind, server.Name)
	return found, err
}

// HasScaledToZero reports whether an autoscaler has scaled to 0. While it has, and only then, it scales up from 0, whoever wrote that 0.
func HasScaledToZero(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// onlyWhatIsLookedAt keeps of the status of an autoscaler what is looked at, without what changes all the time: which scale it wrote last
// and when, and its conditions once it has scaled to 0.
func onlyWhatIsLookedAt(hpa *autoscalingv2.HorizontalPodAutoscaler) autoscalingv2.HorizontalPodAutoscalerStatus {
	kept := autoscalingv2.HorizontalPodAutoscalerStatus{LastScaleTime: hpa.Status.LastScaleTime, DesiredReplicas: hpa.Status.DesiredReplicas}
	if !HasScaledToZero(hpa) {
		return kept
	}
	for _, condition := range hpa.Status.Conditions {
		if condition.Type == autoscalingv2.ScaledToZero || condition.Type == autoscalingv2.ScalingActive {
			kept.Conditions = append(kept.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
				Type: condition.Type, Status: condition.Status, Reason: condition.Reason,
			})
		}
	}
	return kept
}

// AutoscalerChanged ignores updates of an autoscaler in which nothing changes that is looked at.
var AutoscalerChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, isBefore := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
	after, isAfter := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
	return !isBefore || !isAfter ||
		!equality.Semantic.DeepEqual(before.Spec, after.Spec) ||
		!equality.Semantic.DeepEqual(before.OwnerReferences, after.OwnerReferences) ||
		!equality.Semantic.DeepEqual(onlyWhatIsLookedAt(before), onlyWhatIsLookedAt(after))
}}

// ServersOfAutoscaler maps an autoscaler to the MCPServer that it scales: directly, or through its StatefulSet, which has the same name.
func ServersOfAutoscaler(_ context.Context, object client.Object) []reconcile.Request {
	hpa, ok := object.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	name := hpa.Spec.ScaleTargetRef.Name
	switch targetOf(hpa) {
	case targetName(statefulSetKind, name), targetName(mcpServerKind, name):
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: hpa.Namespace, Name: name}}}
	default:
		return nil
	}
}
