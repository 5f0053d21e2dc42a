package plan

import "slices"

// Outcome is the outcome of a step.
type Outcome string

const (
	// Nothing means that nothing was written, as planned.
	Nothing Outcome = "Nothing"
	// Written means that the API server accepted the write.
	Written Outcome = "Written"
	// Unchanged means that the API server accepted an apply that changed nothing: it drops fields that it does not know, such as
	// maxUnavailable before Kubernetes 1.37.
	Unchanged Outcome = "Unchanged"
	// Stale means that the API server rejected a write because an object had changed since it was read. This is normal with optimistic
	// concurrency; the next pass reads the change.
	Stale Outcome = "Stale"
	// Failed means that the step could not be carried out: see Result.Err.
	Failed Outcome = "Failed"
)

// Result is a step and its outcome.
type Result struct {
	Step    Step
	Outcome Outcome
	// Err is the error of a failed step: an error of the API server, or an InvalidSpecError.
	Err error
}

// Results are the results of a pass.
type Results []Result

func (r Results) any(is func(*Result) bool) bool {
	return slices.ContainsFunc(r, func(result Result) bool { return is(&result) })
}

// AreStale reports whether an object had changed on the API server since it was read.
func (r Results) AreStale() bool {
	return r.any(func(result *Result) bool { return result.Outcome == Stale })
}

// Failed reports whether a step could not be carried out.
func (r Results) Failed() bool {
	return r.any(func(result *Result) bool { return result.Outcome == Failed })
}

// Wrote reports whether anything was written.
func (r Results) Wrote() bool {
	return r.any(func(result *Result) bool { return result.Outcome == Written })
}

// HaveMoreToWrite reports whether the next pass has more to write. It must first read what this pass wrote.
func (r Results) HaveMoreToWrite() bool {
	return r.any(func(result *Result) bool {
		return result.Outcome == Stale || (result.Outcome == Written && result.Step.IsFirst())
	})
}

// StatefulSet returns the result of the StatefulSet if it was applied, created or released; nil otherwise.
func (r Results) StatefulSet() *Result {
	for i := range r {
		if step := &r[i].Step; step.isOfStatefulSet() && r[i].Outcome == Written {
			return &r[i]
		}
	}
	return nil
}
