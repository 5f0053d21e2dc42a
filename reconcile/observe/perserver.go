package observe

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// PerServer remembers a value for each MCPServer. The value of an MCPServer ends with it: another MCPServer with the same name does not get it. The zero
// PerServer is empty and ready to use. Passes over different MCPServers use it at the same time. The controller makes one pass at a time over an MCPServer,
// so a pass may read its value, change it and set it.
type PerServer[V any] struct {
	mutex  sync.Mutex
	values map[types.NamespacedName]ofServer[V]
}

// ofServer is the value of the MCPServer with a UID.
type ofServer[V any] struct {
	uid   types.UID
	value V
}

// Get returns the value of an MCPServer, and false if there is none.
func (p *PerServer[V]) Get(server *v1beta1.MCPServer) (V, bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	of, found := p.values[client.ObjectKeyFromObject(server)]
	if !found || of.uid != server.UID {
		var none V
		return none, false
	}
	return of.value, true
}

// Set records the value of an MCPServer.
func (p *PerServer[V]) Set(server *v1beta1.MCPServer, value V) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.values == nil {
		p.values = map[types.NamespacedName]ofServer[V]{}
	}
	p.values[client.ObjectKeyFromObject(server)] = ofServer[V]{server.UID, value}
}

// Forget removes the value of an MCPServer that was deleted.
func (p *PerServer[V]) Forget(server types.NamespacedName) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.values, server)
}
