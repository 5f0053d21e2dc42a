package plan

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/reconcile/observe"
)

// Memory is what passes remember. It is empty after a restart.
type Memory struct {
	// Seen affects decisions: see its documentation.
	Seen *observe.Seen
	// Converged is only a cache.
	Converged *Converged
	// Fights counts take-backs of fields other than the scale. After a restart the count starts again, and the operator soon backs off again.
	Fights *Fights
	// Residues are the fields that MCPServers have dropped and other managers keep, until they are in the status.
	Residues *Residues
}

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	return &Memory{Seen: &observe.Seen{}, Converged: &Converged{}, Fights: &Fights{}, Residues: &Residues{}}
}

// Remember records the results of a pass.
func (m *Memory) Remember(s *observe.Snapshot, results []Result) {
	for i := range results {
		result := &results[i]
		child := result.Step.Child
		switch {
		case result.Step.Action == Keep:
			if !m.Converged.isUnattainable(s.Server, child, result.Step.Live, result.Step.digest) {
				m.Converged.remember(s.Server, child, result.Step.Live, result.Step.digest)
				m.Seen.AsAskedFor(s.Server, child, result.Step.Live.GetUID(), result.Step.content)
			}
		case result.Step.Action == Create && result.Outcome == Written:
			m.Seen.Created(s.Server, child)
		case result.Step.Action == Apply && result.Outcome == Written:
			m.Seen.Applied(s.Server, child, result.Step.Live.GetUID(), result.Step.digest)
		case result.Step.Action == Apply && result.Outcome == Unchanged:
			m.Converged.unattainable(s.Server, child, result.Step.Live, result.Step.digest)
			m.Seen.Created(s.Server, child) // the missing fields were not removed by another writer
		}
		if result.Step.Action == Keep && child.Kind == observe.KindStatefulSet {
			m.Converged.built.Set(s.Server, result.Step.built)
		}
		if step := &result.Step; (step.Action == Keep || step.Action == Apply) && (result.Outcome == Nothing || result.Outcome == Written) {
			m.Residues.set(step.Live, step.left)
		}
		if result.Outcome == Written && len(result.Step.Undoes) > 0 {
			m.Fights.count(s.Server, result.Step.Live, result.Step.Undoes, s.Now)
		}
	}
}

// Forget removes a deleted MCPServer.
func (m *Memory) Forget(server client.ObjectKey) { m.Converged.forget(server) }
