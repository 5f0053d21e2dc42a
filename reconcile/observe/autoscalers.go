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
	"mcpserver-operator/crd/v1beta1"
)

// targetIndex is the index of autoscalers by target: GROUP/KIND/NAME.
const targetIndex = "scaleTarget"

// IndexAutoscalers indexes the autoscalers in the cache by target.
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

// targetOf returns the target of an autoscaler. The API version is ignored.
func targetOf(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	ref := hpa.Spec.ScaleTargetRef
	return targetName(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind(), ref.Name)
}

func targetName(kind schema.GroupKind, name string) string {
	return kind.Group + "/" + kind.Kind + "/" + name
}

// Autoscalers are the HorizontalPodAutoscalers of an MCPServer, by target and sorted by name.
type Autoscalers struct {
	// OfStatefulSet target the StatefulSet and write its scale.
	OfStatefulSet []autoscalingv2.HorizontalPodAutoscaler
	// OfMCPServer target the MCPServer and write its spec.replicas, which is a declaration.
	OfMCPServer []autoscalingv2.HorizontalPodAutoscaler
}

// AutoscalersAmong returns the autoscalers of an MCPServer among those of its namespace.
func AutoscalersAmong(all []autoscalingv2.HorizontalPodAutoscaler, server *v1beta1.MCPServer) Autoscalers {
	var found Autoscalers
	for i := range all {
		switch targetOf(&all[i]) {
		case targetName(statefulSetKind, applyconfigs.StatefulSetName(server.Name)):
			found.OfStatefulSet = append(found.OfStatefulSet, all[i])
		case targetName(mcpServerKind, server.Name):
			found.OfMCPServer = append(found.OfMCPServer, all[i])
		}
	}
	return found
}

// readAutoscalers finds the autoscalers of an MCPServer.
func (r *Reader) readAutoscalers(ctx context.Context, server *v1beta1.MCPServer) (Autoscalers, error) {
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

// HasScaledToZero reports whether an autoscaler has scaled to 0. Only then does it scale up from 0, regardless of the writer of the 0.
func HasScaledToZero(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// onlyWhatIsLookedAt returns the used fields of the status of an autoscaler, without the fields that change frequently: the last scale that it
// wrote and the time, and its conditions if it has scaled to 0.
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

// AutoscalerChanged ignores updates of an autoscaler that change no used field.
var AutoscalerChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, isBefore := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
	after, isAfter := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
	return !isBefore || !isAfter ||
		!equality.Semantic.DeepEqual(before.Spec, after.Spec) ||
		!equality.Semantic.DeepEqual(before.OwnerReferences, after.OwnerReferences) ||
		!equality.Semantic.DeepEqual(onlyWhatIsLookedAt(before), onlyWhatIsLookedAt(after))
}}

// ServersOfAutoscaler maps an autoscaler to the MCPServer that it scales, directly or through the StatefulSet of the same name.
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
