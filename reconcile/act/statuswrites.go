package act

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// statusWrites remembers the version of an MCPServer that the last status write created, until the cache has this version.
// The operator's own status writes do not trigger a pass. A pass with a stale cache could find the correct status in the cache
// while the status on the API server is wrong.
type statusWrites struct {
	mutex sync.Mutex
	last  map[types.NamespacedName]statusWrite
}

type statusWrite struct {
	server  types.UID
	version string
}

// remember records an MCPServer after a write of its status.
func (w *statusWrites) remember(server *v1beta1.MCPServer) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.last == nil {
		w.last = map[types.NamespacedName]statusWrite{}
	}
	w.last[client.ObjectKeyFromObject(server)] = statusWrite{server: server.UID, version: server.ResourceVersion}
}

// areAhead reports whether the last status write created a newer version of an MCPServer than the cached version.
func (w *statusWrites) areAhead(cached *v1beta1.MCPServer) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	key := client.ObjectKeyFromObject(cached)
	last, wrote := w.last[key]
	if !wrote {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(last.version, cached.ResourceVersion)
	if err == nil && order > 0 && last.server == cached.UID {
		return true
	}
	delete(w.last, key)
	return false
}

// forget removes a deleted MCPServer.
func (w *statusWrites) forget(server types.NamespacedName) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.last, server)
}
