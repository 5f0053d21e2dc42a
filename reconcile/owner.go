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

// currentScaleOwner returns the field manager that decides the scale: the operator if it owns it, else whoever of the
// owners wrote last; nil when nobody owns it.
func (c *children) currentScaleOwner() *ownership.Owner {
	var current *ownership.Owner
	for i, owner := range c.scaleOwners {
		if owner.Manager == self {
			return &c.scaleOwners[i]
		}
		if current == nil || current.Time.Before(owner.Time) {
			current = &c.scaleOwners[i]
		}
	}
	return current
}

// scaleOwner names who decides the scale, as in status.scale.owner.
func (p *pass) scaleOwner() string {
	owner := p.children.currentScaleOwner()
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
