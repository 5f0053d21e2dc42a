package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// scaledObjectKind is the kind of KEDA's autoscalers. KEDA creates a HorizontalPodAutoscaler for each ScaledObject, and deletes it while the
// ScaledObject is paused.
var scaledObjectKind = schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}

// The annotations that pause a ScaledObject.
const (
	kedaPausedAnnotation         = "autoscaling.keda.sh/paused"
	kedaPausedReplicasAnnotation = "autoscaling.keda.sh/paused-replicas"
)

// scaler is an autoscaler of an MCPServer: a HorizontalPodAutoscaler, or a ScaledObject of KEDA.
type scaler struct {
	// name is KIND/NAME, as in status.scale.owner.
	name string
	// ofServer is true if the target is the MCPServer, and false if it is the StatefulSet.
	ofServer bool
	isPaused bool
	// pause is the command that pauses it.
	pause string
	// hpa is the HorizontalPodAutoscaler; nil if KEDA has not created it.
	hpa *autoscalingv2.HorizontalPodAutoscaler
}

func (s *scaler) target() string {
	if s.ofServer {
		return "MCPServer"
	}
	return observe.KindStatefulSet
}

// autoscalers returns the HorizontalPodAutoscalers of an MCPServer.
func (c *connection) autoscalers(ctx context.Context, server *v1beta1.MCPServer) (observe.Autoscalers, error) {
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := c.List(ctx, &list, client.InNamespace(server.Namespace)); err != nil {
		return observe.Autoscalers{}, fmt.Errorf("listing the autoscalers: %w", err)
	}
	return observe.AutoscalersAmong(list.Items, server), nil
}

// scalers returns the autoscalers of an MCPServer, also the ScaledObjects that have no HorizontalPodAutoscaler yet.
func (c *connection) scalers(ctx context.Context, server *v1beta1.MCPServer) ([]scaler, error) {
	hpas, err := c.autoscalers(ctx, server)
	if err != nil {
		return nil, err
	}
	objects := &unstructured.UnstructuredList{}
	objects.SetGroupVersionKind(scaledObjectKind)
	err = c.List(ctx, objects, client.InNamespace(server.Namespace))
	// Without KEDA, there are none. Who may not list them still sees their HorizontalPodAutoscalers.
	if err != nil && !apimeta.IsNoMatchError(err) && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return nil, fmt.Errorf("listing the ScaledObjects: %w", err)
	}
	return scalersAmong(hpas, objects.Items, server), nil
}

func scalersAmong(hpas observe.Autoscalers, objects []unstructured.Unstructured, server *v1beta1.MCPServer) []scaler {
	var all []scaler
	seen := map[string]bool{}
	add := func(hpa *autoscalingv2.HorizontalPodAutoscaler, ofServer bool) {
		one := scaler{name: scale.AutoscalerName(hpa), ofServer: ofServer, isPaused: isPaused(hpa), pause: pauseCommand(hpa), hpa: hpa}
		all = append(all, one)
		seen[one.name] = true
	}
	for i := range hpas.OfStatefulSet {
		add(&hpas.OfStatefulSet[i], false)
	}
	for i := range hpas.OfMCPServer {
		add(&hpas.OfMCPServer[i], true)
	}
	for i := range objects {
		object := &objects[i]
		one := scaler{name: scaledObjectKind.Kind + "/" + object.GetName(), isPaused: isPausedObject(object), pause: pauseObjectCommand(object.GetNamespace(), object.GetName())}
		target, _, _ := unstructured.NestedStringMap(object.Object, "spec", "scaleTargetRef")
		// The defaults are those of KEDA.
		group := schema.FromAPIVersionAndKind(cmp.Or(target["apiVersion"], appsv1.SchemeGroupVersion.String()), cmp.Or(target["kind"], "Deployment")).GroupKind()
		switch {
		case seen[one.name]:
			continue // its HorizontalPodAutoscaler is listed
		case group == appsv1.SchemeGroupVersion.WithKind(observe.KindStatefulSet).GroupKind() && target["name"] == applyconfigs.StatefulSetName(server.Name):
		case group == v1beta1.GroupVersion.WithKind("MCPServer").GroupKind() && target["name"] == server.Name:
			one.ofServer = true
		default:
			continue
		}
		all = append(all, one)
	}
	return all
}

// isPaused reports whether an autoscaler does not scale, because both directions are disabled.
func isPaused(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	disabled := func(rules *autoscalingv2.HPAScalingRules) bool {
		return rules != nil && ptr.Deref(rules.SelectPolicy, "") == autoscalingv2.DisabledPolicySelect
	}
	return hpa.Spec.Behavior != nil && disabled(hpa.Spec.Behavior.ScaleUp) && disabled(hpa.Spec.Behavior.ScaleDown)
}

// isPausedObject reports whether a ScaledObject is paused.
func isPausedObject(object *unstructured.Unstructured) bool {
	annotations := object.GetAnnotations()
	_, hasReplicas := annotations[kedaPausedReplicasAnnotation]
	return hasReplicas || annotations[kedaPausedAnnotation] == "true"
}

// pauseCommand returns the command that pauses an autoscaler.
func pauseCommand(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if scale.IsOfKEDA(hpa) {
		_, name, _ := strings.Cut(scale.AutoscalerName(hpa), "/")
		return pauseObjectCommand(hpa.Namespace, name)
	}
	return fmt.Sprintf(`kubectl -n %s patch hpa %s --type=merge -p '{"spec":{"behavior":{"scaleUp":{"selectPolicy":"Disabled"},"scaleDown":{"selectPolicy":"Disabled"}}}}'`,
		hpa.Namespace, hpa.Name)
}

func pauseObjectCommand(namespace, name string) string {
	if len(validation.IsDNS1123Subdomain(name)) > 0 { // the API server does not check the names in owner references
		name = "NAME"
	}
	return fmt.Sprintf("kubectl -n %s annotate scaledobject %s %s=true", namespace, name, kedaPausedAnnotation)
}
