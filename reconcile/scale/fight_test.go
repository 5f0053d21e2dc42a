package scale

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1beta1"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// takeBack counts the given number of take-backs from a writer, at the given interval.
func takeBack(from *v1beta1.ScaleTakeBacks, writer string, times int, every time.Duration, at *time.Time) *v1beta1.ScaleTakeBacks {
	for range times {
		*at = at.Add(every)
		from = CountTakeBack(from, writer, metav1.NewTime(*at))
	}
	return from
}

func TestTheThirdTakeBackWithinAMinuteIsAFight(t *testing.T) {
	for _, row := range []struct {
		name  string
		every time.Duration
		times int
		fight bool
	}{
		{"two in a row", time.Second, 2, false},
		{"three in a row", time.Second, 3, true},
		{"three within a minute", 29 * time.Second, 3, true},
		{"three in more than a minute", 31 * time.Second, 3, false},
		{"many, each a minute apart", time.Minute, 50, false},
	} {
		at := start
		if got := IsFight(takeBack(nil, "hpa", row.times, row.every, &at), at); got != row.fight {
			t.Errorf("%s: fight is %t", row.name, got)
		}
	}
}

// TestWritersByTurnsAreAFight verifies that take-backs from two writers are a fight, and that both writers are named.
func TestWritersByTurnsAreAFight(t *testing.T) {
	at := start
	counted := takeBack(nil, "hpa", 2, time.Second, &at)
	counted = takeBack(counted, "kubectl", 1, time.Second, &at)
	if !IsFight(counted, at) || NextTakeBack(counted, at).IsZero() {
		t.Error("three take-backs within a minute from two writers are no fight")
	}
	if got := Writers(counted); !slices.Equal(got, []string{"hpa", "kubectl"}) {
		t.Errorf("the writers are %q", got)
	}
	for range 50 {
		counted = takeBack(counted, "another "+at.String(), 1, time.Second, &at)
	}
	if got := len(Writers(counted)); got != mostWriters {
		t.Errorf("%d writers are named", got)
	}
}

// TestACountFromTheFutureDoesNotCount verifies that a fight with a future time has no effect. The status was edited, or a clock was wrong.
func TestACountFromTheFutureDoesNotCount(t *testing.T) {
	at := start.Add(time.Hour)
	counted := takeBack(nil, "hpa", 5, time.Second, &at)
	if IsFight(counted, start) {
		t.Error("a fight with a future time causes a delay")
	}
}

func TestTheDelayDoublesFromTenSecondsToFiveMinutes(t *testing.T) {
	at := start
	counted := takeBack(nil, "hpa", 2, time.Second, &at)
	if !NextTakeBack(counted, at).IsZero() {
		t.Error("there is a delay before the third take-back")
	}
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300, 300} {
		counted = takeBack(counted, "hpa", 1, time.Second, &at)
		next := NextTakeBack(counted, at)
		if got := next.Sub(at); got != want*time.Second {
			t.Fatalf("after %d take-backs the delay is %s, wanted %s", counted.Count, got, want*time.Second)
		}
		if !NextTakeBack(counted, next).IsZero() {
			t.Fatal("there is another delay after the delay")
		}
		at = next
	}
}

func TestAFightIsOverWhenTheOtherKeepsStill(t *testing.T) {
	at := start
	counted := takeBack(nil, "hpa", 3, time.Second, &at)
	if !IsFight(counted, at.Add(69*time.Second)) {
		t.Error("the fight is over before the delay and a minute have passed")
	}
	if IsFight(counted, at.Add(70*time.Second)) {
		t.Error("the fight is not over after the delay and a minute")
	}
	at = at.Add(70 * time.Second)
	if counted = takeBack(counted, "hpa", 1, 0, &at); counted.Count != 1 {
		t.Errorf("the count continues at %d", counted.Count)
	}
}
