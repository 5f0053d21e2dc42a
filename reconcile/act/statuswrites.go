package act

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// statusWrites remembers the version of an MCPServer that the last status write created, until the cache has this version.
// The operator's own status writes do not trigger a pass. A pass with a stale cache could find the correct status in the cache
// while the status on the API server is wrong.
type statusWrites struct {
	versions observe.PerServer[string]
}

// remember records an MCPServer after a write of its status.
func (w *statusWrites) remember(server *v1beta1.MCPServer) {
	w.versions.Set(server, server.ResourceVersion)
}

// areAhead reports whether the last status write created a newer version of an MCPServer than the cached version.
func (w *statusWrites) areAhead(cached *v1beta1.MCPServer) bool {
	version, wrote := w.versions.Get(cached)
	if !wrote {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(version, cached.ResourceVersion); err == nil && order > 0 {
		return true
	}
	w.forget(client.ObjectKeyFromObject(cached))
	return false
}

// forget removes an MCPServer that was deleted, or whose last write the cache has.
func (w *statusWrites) forget(server types.NamespacedName) { w.versions.Forget(server) }
