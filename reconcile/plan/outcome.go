package plan

import "slices"

// Outcome is what came of a step.
type Outcome string

const (
	// Nothing was written, as planned.
	Nothing Outcome = "Nothing"
	// Written is a write that the API server carried out.
	Written Outcome = "Written"
	// Unchanged is an apply that the API server accepted and that changed nothing: it drops fields that it does not have, such as
	// maxUnavailable before Kubernetes 1.37.
	Unchanged Outcome = "Unchanged"
	// Stale is a write that the API server refused because an object had changed since it was seen. It is an everyday outcome of
	// optimistic concurrency; the next pass sees the change.
	Stale Outcome = "Stale"
	// Failed is a step that could not be carried out: see Result.Err.
	Failed Outcome = "Failed"
)

// Result is a step and what came of it.
type Result struct {
	Step    Step
	Outcome Outcome
	// Err is why a step failed. It is an error of the API server, or an InvalidSpecError.
	Err error
}

// Results are those of a pass.
type Results []Result

func (r Results) any(is func(*Result) bool) bool {
	return slices.ContainsFunc(r, func(result Result) bool { return is(&result) })
}

// AreStale reports whether the API server has another version of something than was seen.
func (r Results) AreStale() bool {
	return r.any(func(result *Result) bool { return result.Outcome == Stale })
}

// Wrote reports whether anything was written.
func (r Results) Wrote() bool {
	return r.any(func(result *Result) bool { return result.Outcome == Written })
}

// HaveMoreToWrite reports whether the next pass has more to write, for which it has to see what this one wrote.
func (r Results) HaveMoreToWrite() bool {
	return r.any(func(result *Result) bool {
		return result.Outcome == Stale || (result.Outcome == Written && result.Step.IsFirst())
	})
}

// Residues are what others keep of what the MCPServer has dropped.
func (r Results) Residues() []Residue {
	var all []Residue
	for i := range r {
		if r[i].Outcome == Nothing || r[i].Outcome == Written {
			all = append(all, residues(r[i].Step.Child, r[i].Step.left)...)
		}
	}
	return all
}

// StatefulSet is the result of the StatefulSet if it was applied, created or released; nil otherwise.
func (r Results) StatefulSet() *Result {
	for i := range r {
		if step := &r[i].Step; step.isOfStatefulSet() && r[i].Outcome == Written {
			return &r[i]
		}
	}
	return nil
}
