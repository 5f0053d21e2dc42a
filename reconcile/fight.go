package reconcile

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

const (
	// fightAfter take-backs within fightWindow against the same writer are a fight: two controllers that each put the
	// scale back would make pods flap for as long as both run.
	fightAfter  = 3
	fightWindow = time.Minute

	// In a fight the operator waits fightFirstDelay before it takes the scale back again, doubling to fightMostDelay:
	// seldom enough for pods to live in between, often enough to notice soon when the other has stopped.
	fightFirstDelay = 10 * time.Second
	fightMostDelay  = 5 * time.Minute
)

// countTakeBack returns the count after one more take-back from a writer.
func countTakeBack(before *v1alpha1.ScaleTakeBacks, from string, now metav1.Time) *v1alpha1.ScaleTakeBacks {
	if before == nil || before.From != from || !stillCounts(before, now.Time) {
		return &v1alpha1.ScaleTakeBacks{From: from, Count: 1, Since: now, Last: now}
	}
	after := *before
	after.Count++
	after.Last = now
	return &after
}

// stillCounts reports whether the next take-back continues the count. Before it is a fight, the count is of those
// within one window. A fight is over when the other has kept still for a window longer than the operator would wait.
func stillCounts(takeBacks *v1alpha1.ScaleTakeBacks, now time.Time) bool {
	if takeBacks.Count < fightAfter {
		return now.Sub(takeBacks.Since.Time) < fightWindow
	}
	return now.Before(fightEnds(takeBacks))
}

// isFight reports whether the operator and a writer are in a fight.
func isFight(takeBacks *v1alpha1.ScaleTakeBacks, now time.Time) bool {
	return takeBacks != nil && takeBacks.Count >= fightAfter && stillCounts(takeBacks, now)
}

// nextTakeBack returns when the scale may be taken back from a writer again; the zero time means now.
func nextTakeBack(takeBacks *v1alpha1.ScaleTakeBacks, from string, now time.Time) time.Time {
	if takeBacks == nil || takeBacks.From != from || !isFight(takeBacks, now) {
		return time.Time{}
	}
	if next := takeBacks.Last.Add(fightDelay(takeBacks.Count)); next.After(now) {
		return next
	}
	return time.Time{}
}

// fightEnds returns when a fight is over if the other keeps still.
func fightEnds(takeBacks *v1alpha1.ScaleTakeBacks) time.Time {
	return takeBacks.Last.Add(fightDelay(takeBacks.Count) + fightWindow)
}

// fightDelay is how long the operator waits after a number of take-backs.
func fightDelay(count int32) time.Duration {
	delay := fightFirstDelay
	for ; count > fightAfter && delay < fightMostDelay; count-- {
		delay *= 2
	}
	return min(delay, fightMostDelay)
}
