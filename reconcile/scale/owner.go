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
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
)

// The kinds of autoscalers that can own a scale, as KIND/NAME. A field manager cannot imitate such a name: see managerName.
const (
	kindHPA          = "HorizontalPodAutoscaler"
	kindScaledObject = "ScaledObject"
)

const (
	// hpaManager is the field manager of the HorizontalPodAutoscaler controller. Some providers use another name (GKE: vpa-recommender).
	hpaManager = "kube-controller-manager"
	// KEDAManager is the field manager of KEDA. KEDA itself writes 0 and the first number above 0. Its HorizontalPodAutoscaler writes the
	// other numbers.
	KEDAManager = "keda"
	// manyManagers is the field manager into which Kubernetes merges the oldest entries of managedFields if there are more than 10.
	manyManagers = "ancient-changes"
)

// recordedWithin is the maximum difference between the lastScaleTime of an autoscaler and the recorded time of its write. The autoscaler
// writes the scale first and its status afterwards; both times are in whole seconds.
const recordedWithin = 5 * time.Second

// self is the operator as a field manager.
var self = ownership.Applier(applyconfigs.FieldManager)

// Owners are the owners of the scale of a StatefulSet, as recorded in managedFields.
type Owners []ownership.Owner

// Ours reports whether the operator owns the scale.
func (o Owners) Ours() bool { return ownership.Owns(o, self) }

// Current returns the field manager that decides the scale; nil if the scale has no owner. If several managers own the same value, it
// returns the operator, or else the manager that the status recorded last, or else the manager that last wrote to the object:
// managedFields has no time per field.
func (o Owners) Current(last *v1beta1.ScaleStatus) *ownership.Owner {
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

// OthersThanOurs returns the other managers that own the scale, sorted and in quotes.
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

// OwnerName returns the owner of a scale for users, as in status.scale.owner: the MCPServer, an autoscaler of the StatefulSet, or else the
// field manager. Owner is nil if Kubernetes has recorded none.
func OwnerName(owner *ownership.Owner, replicas int32, hpas []autoscalingv2.HorizontalPodAutoscaler) string {
	if owner != nil && owner.Manager == self {
		return v1beta1.ScaleOwnerMCPServer
	}
	for i := range hpas {
		if wrote(&hpas[i], owner, replicas) {
			return AutoscalerName(&hpas[i])
		}
	}
	if owner == nil {
		return v1beta1.ScaleOwnerUnclaimed
	}
	return managerName(owner.Name)
}

// wrote reports whether an autoscaler wrote a scale of replicas that is recorded for owner. It is certain if the owner is the field manager
// of the autoscaler controller. Otherwise the status of the autoscaler decides: its desired replicas, and the time of its last write.
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

// managerName returns the name of a field manager as the owner of a scale. Any writer can choose its name. Therefore a name that looks like
// an object, several writers, or a reserved word of status.scale.owner is put in quotes, without commas.
func managerName(name string) string {
	if strings.ContainsAny(name, `/,"`) || name == v1beta1.ScaleOwnerMCPServer || name == v1beta1.ScaleOwnerUnclaimed {
		return strconv.Quote(strings.ReplaceAll(name, ",", "_"))
	}
	return name
}

// AutoscalerName returns the name of an autoscaler for users. If KEDA created the autoscaler, this is its ScaledObject.
func AutoscalerName(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if IsOfKEDA(hpa) {
		return kindScaledObject + "/" + metav1.GetControllerOf(hpa).Name
	}
	return kindHPA + "/" + hpa.Name
}

// IsOfKEDA reports whether KEDA created an autoscaler for a ScaledObject.
func IsOfKEDA(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	owner := metav1.GetControllerOf(hpa)
	return owner != nil && owner.Kind == kindScaledObject &&
		schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).Group == "keda.sh"
}

// Describe returns the owner of a scale, as returned by OwnerName, in words for a sentence.
func Describe(owner string) string {
	switch {
	case owner == v1beta1.ScaleOwnerMCPServer:
		return "this MCPServer"
	case owner == v1beta1.ScaleOwnerUnclaimed:
		return "an unknown writer (Kubernetes records no owner if a writer uses /scale and the field had no owner)"
	case owner == manyManagers:
		return fmt.Sprintf("an earlier writer (Kubernetes merges the oldest field managers of an object into %q)", manyManagers)
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

// StopAdvice returns how to stop an owner of a scale from writing it.
func StopAdvice(owner string) string {
	if kind, name, found := strings.Cut(owner, "/"); found && isAutoscaler(owner) {
		return fmt.Sprintf("Delete %s %q", kind, name)
	}
	return fmt.Sprintf("Stop %s from scaling the StatefulSet", Describe(owner))
}

// knownManagers are the field managers that are values of a metric label. All others are "other": if any writer could choose the value of a
// label, the number of time series would have no limit.
var knownManagers = []string{
	"kubectl", "kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl-replace", hpaManager, KEDAManager,
	"argocd-controller", "kustomize-controller", "helm-controller", "helm", "terraform", "Terraform", manyManagers,
}

// OwnerKind returns the kind of the owner of a scale, from a closed set: MCPServer, Unclaimed, the kind of an autoscaler, a well-known
// field manager, or "other".
func OwnerKind(owner string) string {
	switch {
	case owner == v1beta1.ScaleOwnerMCPServer, owner == v1beta1.ScaleOwnerUnclaimed, slices.Contains(knownManagers, owner):
		return owner
	case isAutoscaler(owner):
		kind, _, _ := strings.Cut(owner, "/")
		return kind
	default:
		return "other"
	}
}
