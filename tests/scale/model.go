// Package scale is what the storm and the faults have in common: a model of the scale protocol, and the requests by which
// users, autoscalers and other controllers write what the protocol is about.
package scale

import (
	"fmt"

	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1alpha1"
)

// Model is the scale protocol as a user understands it: it knows of numbers and of who said them last, and nothing of
// field managers, requests or caches.
type Model struct {
	Declared *int32
	Policy   v1alpha1.ReplicasConflictPolicy
	// CarriedOut is the declaration that was carried out last.
	CarriedOut *int32
	// Replicas is what the StatefulSet has to ask for.
	Replicas int32
	// Fresh is true until the operator has made the StatefulSet of an MCPServer for the first time.
	Fresh bool
	// Ours is true when nobody else has scaled since the operator did.
	Ours bool
}

// OperatorActs is what has to be true once the operator has had its passes.
func (m *Model) OperatorActs() {
	if m.Declared == nil {
		m.CarriedOut, m.Ours = nil, false
		if m.Fresh {
			m.Replicas, m.Fresh = 1, false
		}
		return
	}
	isNew := m.Fresh || !ptr.Equal(m.CarriedOut, m.Declared)
	if isNew || (m.Policy == v1alpha1.ReplicasConflictForce && !m.Ours) {
		m.Replicas, m.Ours = *m.Declared, true
	}
	m.CarriedOut, m.Fresh = ptr.To(*m.Declared), false
}

// SomeoneScales is a write of the scale of the StatefulSet by anyone but the operator.
func (m *Model) SomeoneScales(replicas int32) {
	if m.Replicas != replicas {
		m.Ours = false
	}
	m.Replicas = replicas
}

// SomeoneDeletes is a deletion of the StatefulSet at a scale that the operator has seen. It comes back at that scale, and
// belongs to the operator if it is the declared one; under Force it comes back as declared.
func (m *Model) SomeoneDeletes() {
	if m.Declared != nil {
		m.Ours = m.Policy != v1alpha1.ReplicasConflictForce && m.Replicas == *m.Declared
	}
}

func (m *Model) String() string {
	declared := "nothing"
	if m.Declared != nil {
		declared = fmt.Sprint(*m.Declared)
	}
	return fmt.Sprintf("declared %s, policy %s, replicas %d", declared, m.Policy, m.Replicas)
}
