package act

import (
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// confirmedServers remembers the last StatefulSet that this process has written for each MCPServer, from a generation that was current. While the
// StatefulSet is still in this generation, nobody has carried out a later generation of the MCPServer: the cache of this process does not
// go back, and another leader would have changed the StatefulSet. The API server then need not be asked for the generation of the MCPServer.
type confirmedServers struct {
	last observe.PerServer[confirmedSet]
}

type confirmedSet struct {
	uid        types.UID
	generation int64
}

// has reports whether the generation of a cached MCPServer is known to be current or later than all that were carried out.
func (c *confirmedServers) has(cached *v1beta1.MCPServer, set client.Object) bool {
	if set == nil {
		return false
	}
	last, found := c.last.Get(cached)
	return found && last == confirmedSet{set.GetUID(), set.GetGeneration()}
}

// remember records the StatefulSet in the answer to an apply, before which the generation of the MCPServer was confirmed.
func (c *confirmedServers) remember(server *v1beta1.MCPServer, set *appsv1ac.StatefulSetApplyConfiguration) {
	if set.ObjectMetaApplyConfiguration == nil {
		return
	}
	c.last.Set(server, confirmedSet{ptr.Deref(set.UID, ""), ptr.Deref(set.Generation, 0)})
}

// forget removes a deleted MCPServer.
func (c *confirmedServers) forget(server types.NamespacedName) { c.last.Forget(server) }
