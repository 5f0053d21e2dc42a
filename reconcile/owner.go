package reconcile

import (
	"fmt"
	"strings"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// horizontalPodAutoscalerManager is the field manager of the controller of HorizontalPodAutoscalers, which writes
// through /scale.
const horizontalPodAutoscalerManager = "kube-controller-manager"

// currentScaleOwner returns the field manager that decides the scale; nil when nobody owns it. When several own it, at
// the same value, it is the operator, else the one it was before, else the one that wrote to the object last: the time
// in managedFields is not that of a field.
func (p *pass) currentScaleOwner() *ownership.Owner {
	var current *ownership.Owner
	rank := func(owner ownership.Owner) int {
		last := p.server.Status.Scale
		switch {
		case owner.Manager == self:
			return 2
		case last != nil && owner.Manager == ownership.Manager{Name: last.Manager, Operation: last.Operation, Subresource: last.Subresource}:
			return 1
		default:
			return 0
		}
	}
	for i, owner := range p.children.scaleOwners {
		if current == nil || rank(owner) > rank(*current) ||
			(rank(owner) == rank(*current) && current.Time.Before(owner.Time)) {
			current = &p.children.scaleOwners[i]
		}
	}
	return current
}

// scaleOwner names who decides the scale, as in status.scale.owner.
func (p *pass) scaleOwner() string {
	owner := p.currentScaleOwner()
	switch {
	case owner == nil:
		return v1alpha1.ScaleOwnerUnclaimed
	case owner.Manager == self:
		return v1alpha1.ScaleOwnerMCPServer
	case owner.Name == horizontalPodAutoscalerManager && owner.Subresource == "scale" && len(p.autoscalers.ofStatefulSet) > 0:
		return autoscalerName(&p.autoscalers.ofStatefulSet[0])
	default:
		return owner.Name
	}
}

// describeOwner turns the owner of a scale into words for a sentence.
func describeOwner(owner string) string {
	switch {
	case owner == v1alpha1.ScaleOwnerMCPServer:
		return "this MCPServer"
	case owner == v1alpha1.ScaleOwnerUnclaimed:
		return "nobody on record (Kubernetes records no owner of a write through /scale on a field that nobody owns)"
	case strings.Contains(owner, "/"):
		return owner
	default:
		return fmt.Sprintf("%q", owner)
	}
}
