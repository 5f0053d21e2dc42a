// Package scale contains the code that the storm and fault tests share: a model of the scale protocol, and the requests with which users,
// autoscalers and other controllers write the scale and other fields.
package scale

import (
	"fmt"

	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// Model is the scale protocol from a user's view. It tracks numbers and who set them last. It does not know field managers, requests or
// caches.
type Model struct {
	Declared *int32
	Policy   v1beta1.ReplicasConflictPolicy
	// CarriedOut is the last declaration that the operator carried out.
	CarriedOut *int32
	// Replicas is the expected spec.replicas of the StatefulSet.
	Replicas int32
	// Fresh is true until the operator has created the StatefulSet for the first time.
	Fresh bool
	// Ours is true if no other client has changed the scale since the operator set it.
	Ours bool
}

// OperatorActs updates the model to the state that is expected after the operator's passes.
func (m *Model) OperatorActs() {
	if m.Declared == nil {
		m.CarriedOut, m.Ours = nil, false
		if m.Fresh {
			m.Replicas, m.Fresh = 1, false
		}
		return
	}
	isNew := m.Fresh || !ptr.Equal(m.CarriedOut, m.Declared)
	if isNew || (m.Policy == v1beta1.ReplicasConflictForce && !m.Ours) {
		m.Replicas, m.Ours = *m.Declared, true
	}
	m.CarriedOut, m.Fresh = ptr.To(*m.Declared), false
}

// SomeoneScales records a write of the StatefulSet's scale by another client.
func (m *Model) SomeoneScales(replicas int32) {
	if m.Replicas != replicas {
		m.Ours = false
	}
	m.Replicas = replicas
}

// SomeoneDeletes records a deletion of the StatefulSet at a scale that the operator has seen. The StatefulSet is recreated at that scale,
// and the operator owns the scale if it equals the declared one. With Force, the StatefulSet is recreated at the declared scale.
func (m *Model) SomeoneDeletes() {
	if m.Declared != nil {
		m.Ours = m.Policy != v1beta1.ReplicasConflictForce && m.Replicas == *m.Declared
	}
}

func (m *Model) String() string {
	declared := "nothing"
	if m.Declared != nil {
		declared = fmt.Sprint(*m.Declared)
	}
	return fmt.Sprintf("declared %s, policy %s, replicas %d", declared, m.Policy, m.Replicas)
}
