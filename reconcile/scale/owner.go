package scale

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// The kinds of autoscalers that an owner of a scale may be, as KIND/NAME. No field manager can pass for one: see managerName.
const (
	kindHPA          = "HorizontalPodAutoscaler"
	kindScaledObject = "ScaledObject"
)

const (
	// hpaManager is the field manager of the controller of HorizontalPodAutoscalers. Some clouds run it under another name (GKE:
	// vpa-recommender).
	hpaManager = "kube-controller-manager"
	// KEDAManager is the field manager of KEDA. KEDA writes 0, and the first number above 0, itself; its HorizontalPodAutoscaler writes
	// the others.
	KEDAManager = "keda"
	// manyManagers is the field manager under which Kubernetes merges the oldest entries of managedFields if there are more than 10.
	manyManagers = "ancient-changes"
)

// recordedWithin is how far the lastScaleTime of an autoscaler may be from the time of the write that it is the time of. The
// autoscaler writes the scale first and its status afterwards; both times are in whole seconds.
const recordedWithin = 5 * time.Second

// self is the operator as a field manager.
var self = ownership.Applier(applyconfigs.FieldManager)

// Owners is who owns the scale of a StatefulSet, as its managedFields record.
type Owners []ownership.Owner

// Ours reports whether the operator owns the scale.
func (o Owners) Ours() bool { return ownership.Owns(o, self) }

// Current returns the field manager that decides the scale; nil if nobody owns it. Several may own it at the same value. Then it is
// the operator, else the manager that the status recorded last, else the manager that wrote to the object last: the time in
// managedFields is not that of a field.
func (o Owners) Current(last *v1alpha1.ScaleStatus) *ownership.Owner {
	var current *ownership.Owner
	rank := func(owner ownership.Owner) int {
		switch {
		case owner.Manager == self:
			return 2
		case last != nil && owner.Manager == ownership.Manager{Name: last.Manager, Operation: last.Operation, Subresource: last.Subresource}:
			return 1
		default:
			return 0
		}
	}
	for i, owner := range o {
		if current == nil || rank(owner) > rank(*current) ||
			(rank(owner) == rank(*current) && current.Time.Before(owner.Time)) {
			current = &o[i]
		}
	}
	return current
}

// OthersThanOurs are the managers that own the scale besides the operator, at the same value.
func (o Owners) OthersThanOurs() []string {
	var names []string
	for _, owner := range o {
		if owner.Manager != self {
			names = append(names, strconv.Quote(owner.Name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// OwnerName names whom a person would name as the owner of a scale of replicas, as in status.scale.owner: the MCPServer, an
// autoscaler of the StatefulSet, or else the field manager. Owner is nil if Kubernetes has recorded none.
func OwnerName(owner *ownership.Owner, replicas int32, hpas []autoscalingv2.HorizontalPodAutoscaler) string {
	if owner != nil && owner.Manager == self {
		return v1alpha1.ScaleOwnerMCPServer
	}
	for i := range hpas {
		if wrote(&hpas[i], owner, replicas) {
			return AutoscalerName(&hpas[i])
		}
	}
	if owner == nil {
		return v1alpha1.ScaleOwnerUnclaimed
	}
	return managerName(owner.Name)
}

// wrote reports whether a scale of replicas, recorded for owner, is an autoscaler's. The name of the manager tells it where that is a
// name of the controller of autoscalers. Otherwise the status of the autoscaler tells it: what it asks for, and when it last wrote.
func wrote(hpa *autoscalingv2.HorizontalPodAutoscaler, owner *ownership.Owner, replicas int32) bool {
	last := hpa.Status.LastScaleTime
	wants := last != nil && hpa.Status.DesiredReplicas == replicas
	switch {
	case owner == nil:
		return wants
	case owner.Name == KEDAManager && IsOfKEDA(hpa):
		return true
	case owner.Subresource != "scale":
		return false
	case owner.Name == hpaManager:
		return true
	default:
		return wants && owner.Time != nil && last.Sub(owner.Time.Time).Abs() <= recordedWithin
	}
}

// managerName is the name of a field manager as the owner of a scale. Whoever writes chooses that name: one that could be taken for
// an object, for several writers, or for a word of status.scale.owner, is in quotes and without commas.
func managerName(name string) string {
	if strings.ContainsAny(name, `/,"`) || name == v1alpha1.ScaleOwnerMCPServer || name == v1alpha1.ScaleOwnerUnclaimed {
		return strconv.Quote(strings.ReplaceAll(name, ",", "_"))
	}
	return name
}

// AutoscalerName names an autoscaler as its user knows it: the ScaledObject, if KEDA made it for one.
func AutoscalerName(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if IsOfKEDA(hpa) {
		return kindScaledObject + "/" + metav1.GetControllerOf(hpa).Name
	}
	return kindHPA + "/" + hpa.Name
}

// IsOfKEDA reports whether KEDA made an autoscaler for a ScaledObject.
func IsOfKEDA(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	owner := metav1.GetControllerOf(hpa)
	return owner != nil && owner.Kind == kindScaledObject &&
		schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).Group == "keda.sh"
}

// Describe turns the owner of a scale, as OwnerName names it, into words for a sentence.
func Describe(owner string) string {
	switch {
	case owner == v1alpha1.ScaleOwnerMCPServer:
		return "this MCPServer"
	case owner == v1alpha1.ScaleOwnerUnclaimed:
		return "an unknown writer (Kubernetes records no owner if a field without an owner is written through /scale)"
	case owner == manyManagers:
		return fmt.Sprintf("an earlier writer (Kubernetes keeps the oldest writers of an object as %q)", manyManagers)
	case isAutoscaler(owner), strings.HasPrefix(owner, `"`):
		return owner
	default:
		return strconv.Quote(owner)
	}
}

// isAutoscaler reports whether the owner of a scale is an autoscaler.
func isAutoscaler(owner string) bool {
	kind, _, found := strings.Cut(owner, "/")
	return found && (kind == kindHPA || kind == kindScaledObject)
}

// StopAdvice says how to stop an owner of a scale from writing it.
func StopAdvice(owner string) string {
	if kind, name, found := strings.Cut(owner, "/"); found && isAutoscaler(owner) {
		return fmt.Sprintf("Delete %s %q", kind, name)
	}
	return fmt.Sprintf("Stop %s from scaling the StatefulSet", Describe(owner))
}

// knownManagers are the field managers that a metric names. Any other is "other": a label whose values strangers choose would be a
// way to fill the memory of whoever collects the metric.
var knownManagers = []string{
	"kubectl", "kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl-replace", hpaManager, KEDAManager,
	"argocd-controller", "kustomize-controller", "helm-controller", "helm", "terraform", "Terraform", manyManagers,
}

// OwnerKind is the owner of a scale without its name, from a closed set: MCPServer, Unclaimed, the kind of an autoscaler, a well-known
// field manager, or "other".
func OwnerKind(owner string) string {
	switch {
	case owner == v1alpha1.ScaleOwnerMCPServer, owner == v1alpha1.ScaleOwnerUnclaimed, slices.Contains(knownManagers, owner):
		return owner
	case isAutoscaler(owner):
		kind, _, _ := strings.Cut(owner, "/")
		return kind
	default:
		return "other"
	}
}
