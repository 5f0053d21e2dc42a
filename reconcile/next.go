package reconcile

import (
	"time"

	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// strayMost is the longest time between two looks at the pods of a deleted StatefulSet, which the API server is asked for.
const strayMost = time.Minute

// nextLook is when to make another pass that no watch may ask for: after a write, while a deleted StatefulSet waits for its pods, when a
// report is due that waits, when time alone tells that a pod does not work, or in a fight, to put something back after a delay or to say
// that the fight is over. Soon is true after a write of the status, and while the cache does not show one. Zero for never.
func nextLook(s *observe.Snapshot, p plan.Plan, results plan.Results, soon bool, postponed time.Duration) time.Duration {
	if results.Wrote() || soon {
		return settleAfter
	}
	looks := []time.Duration{postponed, s.Pods.LookAgain}
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

// fightsEnd are the times at which something about a fight changes.
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
