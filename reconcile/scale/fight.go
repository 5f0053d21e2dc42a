package scale

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
)

// FightAfter take-backs within FightWindow are a fight, regardless of the other writers. Two controllers that both restore the scale would
// make pods flap as long as they run.
const (
	FightAfter  = 3
	FightWindow = time.Minute
)

// In a fight the operator waits firstDelay before the next take-back, doubling up to MostDelay. The delay is long enough for pods to work in
// between, and short enough to restore the scale soon after the other writers stop.
const (
	firstDelay = 10 * time.Second
	MostDelay  = 5 * time.Minute
)

// mostWriters is the maximum number of writers that a count names.
const mostWriters = 3

// betweenWriters separates the writers of a count. The name of an owner never contains it: see managerName.
const betweenWriters = ", "

// CountTakeBack returns the count after one more take-back. From is the previous owner, as returned by OwnerName.
func CountTakeBack(before *v1beta1.ScaleTakeBacks, from string, now metav1.Time) *v1beta1.ScaleTakeBacks {
	if before == nil || !StillCounts(before, now.Time) {
		return &v1beta1.ScaleTakeBacks{From: from, Count: 1, Since: now, Last: now}
	}
	after := *before
	after.Count++
	after.Last = now
	if writers := Writers(&after); !slices.Contains(writers, from) && len(writers) < mostWriters {
		after.From += betweenWriters + from
	}
	return &after
}

// Writers returns the owners from which the scale was taken back, the earliest first.
func Writers(takeBacks *v1beta1.ScaleTakeBacks) []string {
	return strings.Split(takeBacks.From, betweenWriters)
}

// StillCounts reports whether the next take-back continues the count. Before a fight, the count covers one window. A fight is over if the
// other writers do nothing for the current delay and one window more. A count with a time in the future is ignored: it was edited, or a
// clock was wrong.
func StillCounts(takeBacks *v1beta1.ScaleTakeBacks, now time.Time) bool {
	if takeBacks.Last.After(now) || takeBacks.Since.After(now) {
		return false
	}
	if takeBacks.Count < FightAfter {
		return now.Sub(takeBacks.Since.Time) < FightWindow
	}
	return now.Before(FightEnds(takeBacks))
}

// IsFight reports whether the operator and other writers are in a fight.
func IsFight(takeBacks *v1beta1.ScaleTakeBacks, now time.Time) bool {
	return takeBacks != nil && takeBacks.Count >= FightAfter && StillCounts(takeBacks, now)
}

// NextTakeBack returns when the operator may take the scale back again; the zero time means now.
func NextTakeBack(takeBacks *v1beta1.ScaleTakeBacks, now time.Time) time.Time {
	if !IsFight(takeBacks, now) {
		return time.Time{}
	}
	if next := takeBacks.Last.Add(delay(takeBacks.Count)); next.After(now) {
		return next
	}
	return time.Time{}
}

// FightEnds returns when a fight is over if the other writers do nothing.
func FightEnds(takeBacks *v1beta1.ScaleTakeBacks) time.Time {
	return takeBacks.Last.Add(delay(takeBacks.Count) + FightWindow)
}

// delay returns how long the operator waits after a number of take-backs.
func delay(count int32) time.Duration {
	wait := firstDelay
	for ; count > FightAfter && wait < MostDelay; count-- {
		wait *= 2
	}
	return min(wait, MostDelay)
}
