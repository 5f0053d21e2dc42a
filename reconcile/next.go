package reconcile

import (
	"time"

	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// strayMost is the maximum time between two requests to the API server for the pods of a deleted StatefulSet.
const strayMost = time.Minute

// nextLook returns the time until the next pass that no watch event may trigger: after a write, while pods of a deleted StatefulSet exist, when a
// delayed report is due, when a problem of a pod shows only by the passing of time, or in a fight, for the next take-back or to report that the
// fight is over. Soon is true after a write of the status, and while the cache does not have this write. Zero means that no pass is needed.
func nextLook(s *observe.Snapshot, p plan.Plan, results plan.Results, soon bool, postponed time.Duration) time.Duration {
	if results.Wrote() || soon {
		return settleAfter
	}
	looks := []time.Duration{postponed, s.Pods.LookAgain, s.Image.LookAgain}
	if len(s.Stray) > 0 {
		looks = append(looks, min(max(observe.UnreadyFor(s.Server, s.Now.Time)/2, settleAfter), strayMost))
	}
	for _, at := range fightsEnd(s, p, results) {
		looks = append(looks, max(at.Sub(s.Now.Time), settleAfter))
	}
	var next time.Duration
	for _, look := range looks {
		if look > 0 && (next == 0 || look < next) {
			next = look
		}
	}
	return next
}

// fightsEnd returns the times at which the state of a fight changes.
func fightsEnd(s *observe.Snapshot, p plan.Plan, results plan.Results) []time.Time {
	var ends []time.Time
	for i := range results {
		if step := &results[i].Step; step.Action == plan.BackOff {
			ends = append(ends, step.Until)
		}
	}
	if last := s.Server.Status.Scale; last != nil && scale.IsFight(last.TakeBacks, s.Now.Time) {
		if p.Scale.Action == scale.BackOff {
			return append(ends, p.Scale.RetryAt)
		}
		return append(ends, scale.FightEnds(last.TakeBacks))
	}
	return ends
}
