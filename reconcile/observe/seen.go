package observe

import (
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// Seen remembers which children existed, and which of them matched their MCPServer. It is not only a cache, because decisions depend on it: if
// a child existed and the cache does not have it, the cache may be stale; if a child had a field and the field is missing, another writer
// removed it. Seen also remembers the record of the scale, which another writer may remove from the status. It is kept in memory: after a
// restart, the operator reports the removal of a field only if this process had seen the field.
type Seen struct {
	children PerServer[map[Child]seenChild]
	scales   PerServer[*v1beta1.ScaleStatus]
}

// seenChild is a child that matched its MCPServer. It is empty for a child that was only created.
type seenChild struct {
	uid types.UID
	// digest is that of the apply configuration that the child matched. If a field of the same apply configuration is missing later, another
	// writer has removed it: the field is not new. The generation of the MCPServer does not tell this, because annotations and images also
	// change what is applied.
	digest uint64
	// applied is what the operator last applied to the child, until the child matches its MCPServer.
	applied applied
}

// applied identifies an apply configuration, and the child that it was applied to.
type applied struct {
	uid    types.UID
	digest uint64
}

// Created records that the operator has created a child.
func (s *Seen) Created(server *v1beta1.MCPServer, child Child) { s.set(server, child, seenChild{}) }

// AsAskedFor records that a child matches the apply configuration with a digest.
func (s *Seen) AsAskedFor(server *v1beta1.MCPServer, child Child, uid types.UID, digest uint64) {
	s.set(server, child, seenChild{uid: uid, digest: digest})
}

// Applied records that the operator has applied a configuration to a child, and that the API server has changed the child.
func (s *Seen) Applied(server *v1beta1.MCPServer, child Child, uid types.UID, digest uint64) {
	is, _ := s.get(server, child)
	is.applied = applied{uid, digest}
	s.set(server, child, is)
}

// WasApplied reports whether the operator has applied the same configuration to a child before, and the child has not matched it since.
func (s *Seen) WasApplied(server *v1beta1.MCPServer, child Child, uid types.UID, digest uint64) bool {
	is, seen := s.get(server, child)
	return seen && is.applied == applied{uid, digest}
}

// WasThere reports whether the operator has created a child, or has seen that the child matched.
func (s *Seen) WasThere(server *v1beta1.MCPServer, child Child) bool {
	_, was := s.get(server, child)
	return was
}

// WasAsAskedFor reports whether the apply configuration with a digest is the last one that a child matched.
func (s *Seen) WasAsAskedFor(server *v1beta1.MCPServer, child Child, uid types.UID, digest uint64) bool {
	last, seen := s.get(server, child)
	return seen && last.uid == uid && last.digest == digest
}

// Scale records the scale status of an MCPServer as the operator has written it.
func (s *Seen) Scale(server *v1beta1.MCPServer, scale *v1beta1.ScaleStatus) {
	s.scales.Set(server, scale.DeepCopy())
}

// ForgetScale forgets the record of the scale of an MCPServer. It is called if a write of the status may have been carried out or not: the
// remembered record may be older than that of the API server.
func (s *Seen) ForgetScale(server *v1beta1.MCPServer) {
	s.scales.Forget(client.ObjectKeyFromObject(server))
}

// ScaleOf returns a copy of the recorded scale status of an MCPServer; nil if there is none.
func (s *Seen) ScaleOf(server *v1beta1.MCPServer) *v1beta1.ScaleStatus {
	scale, _ := s.scales.Get(server)
	return scale.DeepCopy()
}

func (s *Seen) set(server *v1beta1.MCPServer, child Child, is seenChild) {
	children, found := s.children.Get(server)
	if !found {
		children = map[Child]seenChild{}
		s.children.Set(server, children)
	}
	children[child] = is
}

func (s *Seen) get(server *v1beta1.MCPServer, child Child) (is seenChild, found bool) {
	children, _ := s.children.Get(server)
	is, found = children[child]
	return is, found
}

func (s *Seen) forget(server types.NamespacedName) {
	s.children.Forget(server)
	s.scales.Forget(server)
}
