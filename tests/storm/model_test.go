package storm

import (
	"fmt"

	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1alpha1"
)

// model is the scale protocol as a user understands it: it knows of numbers and of who said them last, and nothing of
// field managers, requests or caches.
type model struct {
	declared *int32
	policy   v1alpha1.ReplicasConflictPolicy
	// carriedOut is the declaration that was carried out last.
	carriedOut *int32
	// replicas is what the StatefulSet has to ask for.
	replicas int32
	// fresh is true until the operator has made the StatefulSet of an MCPServer for the first time.
	fresh bool
	// ours is true when nobody else has scaled since the operator did.
	ours bool
}

// operatorActs is what has to be true once the operator has had its passes.
func (m *model) operatorActs() {
	if m.declared == nil {
		m.carriedOut, m.ours = nil, false
		if m.fresh {
			m.replicas, m.fresh = 1, false
		}
		return
	}
	isNew := m.fresh || !ptr.Equal(m.carriedOut, m.declared)
	if isNew || (m.policy == v1alpha1.ReplicasConflictForce && !m.ours) {
		m.replicas, m.ours = *m.declared, true
	}
	m.carriedOut, m.fresh = ptr.To(*m.declared), false
}

func (m *model) someoneScales(replicas int32) {
	if m.replicas != replicas {
		m.ours = false
	}
	m.replicas = replicas
}

func (m *model) String() string {
	declared := "nothing"
	if m.declared != nil {
		declared = fmt.Sprint(*m.declared)
	}
	return fmt.Sprintf("declared %s, policy %s, replicas %d", declared, m.policy, m.replicas)
}
