package act

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// statusWrites remembers what version the last write of a status has made of an MCPServer, until the cache shows it. The
// operator's own writes of the status ask for no pass, and one on an older cache finds a status that is as it should be
// while the real one is not.
type statusWrites struct {
	mutex sync.Mutex
	last  map[types.NamespacedName]statusWrite
}

type statusWrite struct {
	server  types.UID
	version string
}

// remember remembers an MCPServer as a write of its status has made it.
func (w *statusWrites) remember(server *v1alpha1.MCPServer) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.last == nil {
		w.last = map[types.NamespacedName]statusWrite{}
	}
	w.last[client.ObjectKeyFromObject(server)] = statusWrite{server: server.UID, version: server.ResourceVersion}
}

// areAhead reports whether the last write of the status made a later version of an MCPServer than this one, which the cache
// shows.
func (w *statusWrites) areAhead(cached *v1alpha1.MCPServer) bool {
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

// forget forgets an MCPServer that is gone.
func (w *statusWrites) forget(server types.NamespacedName) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.last, server)
}
