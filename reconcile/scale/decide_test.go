package scale

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// TestDecide is the scale protocol as a table. Each row is a sentence: the declaration and the policy, the state of
// the StatefulSet, and the action.
func TestDecide(t *testing.T) {
	const (
		yield = v1beta1.ReplicasConflictYield
		force = v1beta1.ReplicasConflictForce
	)
	ours := func(replicas int32, carriedOut *int32) *Live {
		return &Live{Replicas: replicas, Ours: true, CarriedOut: carriedOut}
	}
	theirs := func(replicas int32, carriedOut *int32) *Live {
		return &Live{Replicas: replicas, CarriedOut: carriedOut}
	}
	n := ptr.To[int32]
	claim := func(replicas int32) applyconfigs.Scale {
		return applyconfigs.Scale{Replicas: n(replicas), Declared: n(replicas)}
	}
	leave := func(declared int32) applyconfigs.Scale { return applyconfigs.Scale{Declared: n(declared)} }

	for _, row := range []struct {
		name     string
		declared *int32
		policy   v1beta1.ReplicasConflictPolicy
		live     *Live
		last     *Last
		action   Action
		apply    applyconfigs.Scale
	}{
		// Delegated.
		{"delegated, others own it: left", nil, yield, theirs(3, nil), nil, Leave, applyconfigs.Scale{}},
		{"delegated, the policy does not matter", nil, force, theirs(3, nil), nil, Leave, applyconfigs.Scale{}},
		{"delegated, scaled to 0: left", nil, yield, theirs(0, nil), nil, Leave, applyconfigs.Scale{}},
		{"delegated, still ours: released", nil, yield, ours(3, n(3)), nil, Release, applyconfigs.Scale{}},
		{"delegated, ours without a declaration (restored): released", nil, yield, ours(3, nil), nil, Release, applyconfigs.Scale{}},
		{"delegated, a declaration is still recorded, not ours: left, and the record dropped", nil, yield, theirs(5, n(3)), nil, Leave, applyconfigs.Scale{}},

		// A declaration is carried out once.
		{"declared for the first time: claimed", n(3), yield, theirs(5, nil), nil, Declare, claim(3)},
		{"declared as it is already, by others: claimed", n(5), yield, theirs(5, nil), nil, Declare, claim(5)},
		{"declared 0: claimed", n(0), yield, theirs(5, nil), nil, Declare, claim(0)},
		{"changed: claimed", n(4), yield, ours(3, n(3)), nil, Declare, claim(4)},
		{"changed while others hold it: claimed", n(4), yield, theirs(5, n(3)), nil, Declare, claim(4)},
		{"carried out, ours: kept", n(3), yield, ours(3, n(3)), nil, Keep, claim(3)},
		{"carried out, ours, under Force: kept", n(3), force, ours(3, n(3)), nil, Keep, claim(3)},

		// Another writer scales afterwards.
		{"carried out, then scaled by others: yielded", n(3), yield, theirs(5, n(3)), nil, Yield, leave(3)},
		{"yielded is the default", n(3), "", theirs(5, n(3)), nil, Yield, leave(3)},
		{"scaled by others to what is declared: still theirs", n(3), yield, theirs(3, n(3)), nil, Yield, leave(3)},
		{"carried out, then scaled by others under Force: taken back", n(3), force, theirs(5, n(3)), nil, TakeBack, claim(3)},
		{"others own what is declared under Force: taken", n(3), force, theirs(3, n(3)), nil, TakeBack, claim(3)},
		{"restored at a scale that is not declared: released", n(3), yield, ours(5, n(3)), nil, Release, leave(3)},
		{"ours at another value under Force: put back", n(3), force, ours(5, n(3)), nil, TakeBack, claim(3)},

		// No StatefulSet.
		{"new, delegated: starts at the default of Kubernetes", nil, yield, nil, nil, Leave, applyconfigs.Scale{}},
		{"new, declared: as declared", n(3), yield, nil, nil, Declare, claim(3)},
		{"new, declared 0: as declared", n(0), yield, nil, nil, Declare, claim(0)},
		{"gone, delegated: comes back as it was", nil, yield, nil, &Last{Replicas: 7}, Restore, applyconfigs.Scale{Replicas: n(7)}},
		{"gone, delegated, was at 0: comes back at 0", nil, yield, nil, &Last{Replicas: 0}, Restore, applyconfigs.Scale{Replicas: n(0)}},
		{"gone, was as declared: as declared", n(3), yield, nil, &Last{Replicas: 3, CarriedOut: n(3)}, Declare, claim(3)},
		{"gone, was yielded: comes back as it was", n(3), yield, nil, &Last{Replicas: 5, CarriedOut: n(3)}, Restore, applyconfigs.Scale{Replicas: n(5), Declared: n(3)}},
		{"gone, under Force: as declared", n(3), force, nil, &Last{Replicas: 5, CarriedOut: n(3)}, Declare, claim(3)},
		{"gone, and declared anew meanwhile: as declared", n(4), yield, nil, &Last{Replicas: 5, CarriedOut: n(3)}, Declare, claim(4)},
		{"gone, and declared for the first time meanwhile: as declared", n(4), yield, nil, &Last{Replicas: 5}, Declare, claim(4)},
		{"gone, and the declaration removed meanwhile: comes back as it was", nil, yield, nil, &Last{Replicas: 5, CarriedOut: n(3)}, Restore, applyconfigs.Scale{Replicas: n(5)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := Decide(Input{Declared: row.declared, Policy: row.policy, Live: row.live, Last: row.last, Now: start})
			if got.Reason == "" {
				t.Error("a decision without a reason")
			}
			if got.Action != row.action || !ptr.Equal(got.Apply.Replicas, row.apply.Replicas) ||
				!ptr.Equal(got.Apply.Declared, row.apply.Declared) {
				t.Errorf("got %s, wanted %s", sentence(got), sentence(Verdict{Action: row.action, Apply: row.apply}))
			}
		})
	}
}

// TestAFightDelaysNothingButTakeBacks verifies that a fight delays take-backs from any writer, and no other action. A take-back of a scale that
// the operator owns is not delayed either: without the field in the apply, the API server would reset the scale.
func TestAFightDelaysNothingButTakeBacks(t *testing.T) {
	fight := &v1beta1.ScaleTakeBacks{From: "hpa", Count: FightAfter, Since: metav1.NewTime(start), Last: metav1.NewTime(start)}
	three, theirs := ptr.To[int32](3), Live{Replicas: 5, CarriedOut: ptr.To[int32](3)}
	ours := theirs
	ours.Ours = true
	for name, row := range map[string]struct {
		declared int32
		policy   v1beta1.ReplicasConflictPolicy
		live     Live
		at       time.Time
		action   Action
	}{
		"a take-back is delayed":                         {3, v1beta1.ReplicasConflictForce, theirs, start, BackOff},
		"a take-back after the delay":                    {3, v1beta1.ReplicasConflictForce, theirs, start.Add(firstDelay), TakeBack},
		"a changed declaration is not delayed":           {4, v1beta1.ReplicasConflictForce, theirs, start, Declare},
		"Yield is not delayed":                           {3, v1beta1.ReplicasConflictYield, theirs, start, Yield},
		"the take-back of an owned scale is not delayed": {3, v1beta1.ReplicasConflictForce, ours, start, TakeBack},
	} {
		got := Decide(Input{Declared: &row.declared, Policy: row.policy, Live: &row.live, Last: &Last{Replicas: 5, CarriedOut: three}, TakeBacks: fight, Now: row.at})
		if got.Action != row.action {
			t.Errorf("%s: got %s, wanted %s", name, sentence(got), row.action)
		}
	}
}

// TestDecideNeverMovesWhatNobodyDeclared checks the rules that have no exceptions, for every possible input with up to three replicas.
func TestDecideNeverMovesWhatNobodyDeclared(t *testing.T) {
	numbers := []*int32{nil, ptr.To[int32](0), ptr.To[int32](1), ptr.To[int32](2)}
	for _, declared := range numbers {
		for _, policy := range []v1beta1.ReplicasConflictPolicy{"", v1beta1.ReplicasConflictYield, v1beta1.ReplicasConflictForce} {
			for _, live := range numbers {
				for _, isOurs := range []bool{false, true} {
					for _, carriedOut := range numbers {
						for _, fights := range []bool{false, true} {
							in := Input{Declared: declared, Policy: policy, Now: start}
							if fights {
								in.TakeBacks = &v1beta1.ScaleTakeBacks{
									From: "x", Count: FightAfter, Since: metav1.NewTime(start), Last: metav1.NewTime(start),
								}
							}
							if live != nil {
								in.Live = &Live{Replicas: *live, Ours: isOurs, CarriedOut: carriedOut}
							}
							checkScaleRules(t, in, Decide(in))
						}
					}
				}
			}
		}
	}
}

func checkScaleRules(t *testing.T, in Input, got Verdict) {
	t.Helper()
	describe := fmt.Sprintf("%+v → %s", in, sentence(got))
	if got.Apply.Replicas != nil && in.Live != nil && !ptr.Equal(got.Apply.Replicas, in.Declared) {
		t.Errorf("a claimed value is not declared: %s", describe)
	}
	if in.Live != nil && in.Live.Ours && got.Apply.Replicas == nil && got.Action != Release {
		t.Errorf("an owned field is dropped, which resets it: %s", describe)
	}
	if !ptr.Equal(got.Apply.Declared, in.Declared) {
		t.Errorf("the recorded declaration differs from the declaration: %s", describe)
	}
	if in.Live != nil && in.Declared != nil && ptr.Equal(in.Live.CarriedOut, in.Declared) && !in.Live.Ours &&
		in.Policy != v1beta1.ReplicasConflictForce && got.Apply.Replicas != nil {
		t.Errorf("a declaration is carried out twice: %s", describe)
	}
}

func sentence(v Verdict) string {
	number := func(n *int32) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s (replicas %s, record %s)", v.Action, number(v.Apply.Replicas), number(v.Apply.Declared))
}
