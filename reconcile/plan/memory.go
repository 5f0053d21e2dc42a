package plan

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/reconcile/observe"
)

// Memory is what passes remember. A restart empties it.
type Memory struct {
	// Seen has a meaning: see there.
	Seen *observe.Seen
	// Converged only saves work.
	Converged *Converged
	// Fights counts take-backs of fields other than the scale. An operator that restarts begins to count anew, and backs off soon after.
	Fights *Fights
	// Residues are what others keep of what MCPServers have dropped.
	Residues *Residues
}

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	return &Memory{Seen: &observe.Seen{}, Converged: &Converged{}, Fights: &Fights{}, Residues: &Residues{}}
}

// Remember remembers what a pass did.
func (m *Memory) Remember(s *observe.Snapshot, results []Result) {
	for i := range results {
		result := &results[i]
		child := result.Step.Child
		switch {
		case result.Step.Action == Keep:
			if !m.Converged.isUnattainable(s.Server, child, result.Step.Live, result.Step.digest) {
				m.Converged.remember(s.Server, child, result.Step.Live, result.Step.digest)
				m.Seen.AsAskedFor(s.Server, child, result.Step.Live.GetUID())
			}
		case result.Step.Action == Create && result.Outcome == Written:
			m.Seen.Created(s.Server, child)
		case result.Step.Action == Apply && result.Outcome == Unchanged:
			m.Converged.unattainable(s.Server, child, result.Step.Live, result.Step.digest)
			m.Seen.Created(s.Server, child) // nobody has removed what it lacks
		}
		if result.Step.Action == Keep && child.Kind == observe.KindStatefulSet {
			m.Converged.rememberBuilt(s.Server, result.Step.built)
		}
		if step := &result.Step; (step.Action == Keep || step.Action == Apply) && (result.Outcome == Nothing || result.Outcome == Written) {
			m.Residues.set(step.Live, step.left)
		}
		if result.Outcome == Written && len(result.Step.Undoes) > 0 {
			m.Fights.count(s.Server, result.Step.Live, result.Step.Undoes, s.Now)
		}
	}
}

// Forget forgets an MCPServer that is gone.
func (m *Memory) Forget(server client.ObjectKey) { m.Converged.forget(server) }
