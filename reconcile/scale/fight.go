package scale

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// FightAfter take-backs within FightWindow are a fight, whoever writes in between: controllers that each put the scale back would make
// pods flap for as long as they run.
const (
	FightAfter  = 3
	FightWindow = time.Minute
)

// In a fight the operator waits firstDelay before it takes the scale back again, doubling to MostDelay: seldom enough for pods to live
// in between, often enough to notice soon when the others have stopped.
const (
	firstDelay = 10 * time.Second
	MostDelay  = 5 * time.Minute
)

// mostWriters is how many writers a count names.
const mostWriters = 3

// betweenWriters separates the writers of a count. No owner of a scale has it in its name: see managerName.
const betweenWriters = ", "

// CountTakeBack returns the count after one more take-back, from a writer as OwnerName names it.
func CountTakeBack(before *v1alpha1.ScaleTakeBacks, from string, now metav1.Time) *v1alpha1.ScaleTakeBacks {
	if before == nil || !StillCounts(before, now.Time) {
		return &v1alpha1.ScaleTakeBacks{From: from, Count: 1, Since: now, Last: now}
	}
	after := *before
	after.Count++
	after.Last = now
	if writers := Writers(&after); !slices.Contains(writers, from) && len(writers) < mostWriters {
		after.From += betweenWriters + from
	}
	return &after
}

// Writers are those from whom the scale was taken back, the first of them first.
func Writers(takeBacks *v1alpha1.ScaleTakeBacks) []string {
	return strings.Split(takeBacks.From, betweenWriters)
}

// StillCounts reports whether the next take-back continues the count. Before it is a fight, the count is of those within one window. A
// fight is over when the others have kept still for a window longer than the operator would wait. A count from the future does not
// count: somebody has edited it, or a clock was wrong.
func StillCounts(takeBacks *v1alpha1.ScaleTakeBacks, now time.Time) bool {
	if takeBacks.Last.After(now) || takeBacks.Since.After(now) {
		return false
	}
	if takeBacks.Count < FightAfter {
		return now.Sub(takeBacks.Since.Time) < FightWindow
	}
	return now.Before(FightEnds(takeBacks))
}

// IsFight reports whether the operator and others are in a fight.
func IsFight(takeBacks *v1alpha1.ScaleTakeBacks, now time.Time) bool {
	return takeBacks != nil && takeBacks.Count >= FightAfter && StillCounts(takeBacks, now)
}

// NextTakeBack returns when the scale may be taken back again; the zero time means now.
func NextTakeBack(takeBacks *v1alpha1.ScaleTakeBacks, now time.Time) time.Time {
	if !IsFight(takeBacks, now) {
		return time.Time{}
	}
	if next := takeBacks.Last.Add(delay(takeBacks.Count)); next.After(now) {
		return next
	}
	return time.Time{}
}

// FightEnds returns when a fight is over if the others keep still.
func FightEnds(takeBacks *v1alpha1.ScaleTakeBacks) time.Time {
	return takeBacks.Last.Add(delay(takeBacks.Count) + FightWindow)
}

// delay is how long the operator waits after a number of take-backs.
func delay(count int32) time.Duration {
	wait := firstDelay
	for ; count > FightAfter && wait < MostDelay; count-- {
		wait *= 2
	}
	return min(wait, MostDelay)
}
