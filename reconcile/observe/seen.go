package observe

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// Seen remembers which children there were, and which of them were as their MCPServer asks for. It has a meaning beyond speed: a child
// that was there and that the cache does not show may be hidden by a cache that lags, and a field that a child had and lacks was removed
// by somebody. It also remembers the record of the scale, which somebody may remove from the status. It is kept in memory. An operator that has restarted reports no removal before it has seen the field itself.
type Seen struct {
	mutex  sync.Mutex
	of     map[types.NamespacedName]seenChildren
	scales map[types.NamespacedName]seenScale
}

// seenScale is the record of the scale of one MCPServer.
type seenScale struct {
	server types.UID
	scale  *v1alpha1.ScaleStatus
}

// seenChildren are the children of one MCPServer: not of another one of its name.
type seenChildren struct {
	server   types.UID
	children map[Child]seenChild
}

// seenChild is empty for a child that was only created.
type seenChild struct {
	uid types.UID
	// generation is that of the MCPServer when the child was as asked for. If the child lacks a field later in the same generation,
	// somebody has removed the field: it is neither new in the MCPServer nor in a new operator.
	generation int64
}

// Created remembers a child that the operator has just created.
func (s *Seen) Created(server *v1alpha1.MCPServer, child Child) { s.set(server, child, seenChild{}) }

// AsAskedFor remembers that a child is as its MCPServer asks for.
func (s *Seen) AsAskedFor(server *v1alpha1.MCPServer, child Child, uid types.UID) {
	s.set(server, child, seenChild{uid: uid, generation: server.Generation})
}

// WasThere reports whether the operator has created a child, or seen it as asked for.
func (s *Seen) WasThere(server *v1alpha1.MCPServer, child Child) bool {
	_, was := s.get(server, child)
	return was
}

// WasAsAskedFor reports whether a child was seen to be as its MCPServer asks for in the present generation.
func (s *Seen) WasAsAskedFor(server *v1alpha1.MCPServer, child Child, uid types.UID) bool {
	last, seen := s.get(server, child)
	return seen && last.uid == uid && last.generation == server.Generation
}

// Scale remembers the record of the scale of an MCPServer, as the operator has written it.
func (s *Seen) Scale(server *v1alpha1.MCPServer, scale *v1alpha1.ScaleStatus) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.scales == nil {
		s.scales = map[types.NamespacedName]seenScale{}
	}
	s.scales[client.ObjectKeyFromObject(server)] = seenScale{server: server.UID, scale: scale.DeepCopy()}
}

// ScaleOf returns a copy of the record of the scale of an MCPServer; nil if none is remembered.
func (s *Seen) ScaleOf(server *v1alpha1.MCPServer) *v1alpha1.ScaleStatus {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	last := s.scales[client.ObjectKeyFromObject(server)]
	if last.server != server.UID {
		return nil
	}
	return last.scale.DeepCopy()
}

func (s *Seen) set(server *v1alpha1.MCPServer, child Child, is seenChild) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := client.ObjectKeyFromObject(server)
	if s.of == nil {
		s.of = map[types.NamespacedName]seenChildren{}
	}
	if s.of[key].server != server.UID || s.of[key].children == nil {
		s.of[key] = seenChildren{server: server.UID, children: map[Child]seenChild{}}
	}
	s.of[key].children[child] = is
}

func (s *Seen) get(server *v1alpha1.MCPServer, child Child) (is seenChild, found bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	of := s.of[client.ObjectKeyFromObject(server)]
	if of.server != server.UID {
		return seenChild{}, false
	}
	is, found = of.children[child]
	return is, found
}

func (s *Seen) forget(server types.NamespacedName) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.of, server)
	delete(s.scales, server)
}
