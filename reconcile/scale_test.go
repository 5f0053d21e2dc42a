package reconcile

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// TestDecideScale is the scale protocol as a table. Each row is a sentence: what is declared under which policy, how
// the StatefulSet is, what is done.
func TestDecideScale(t *testing.T) {
	const (
		yield = v1alpha1.ReplicasConflictYield
		force = v1alpha1.ReplicasConflictForce
	)
	ours := func(replicas int32, carriedOut *int32) *liveScale {
		return &liveScale{Replicas: replicas, Ours: true, CarriedOut: carriedOut}
	}
	theirs := func(replicas int32, carriedOut *int32) *liveScale {
		return &liveScale{Replicas: replicas, CarriedOut: carriedOut}
	}
	fighter := func(replicas int32, carriedOut *int32) *liveScale {
		return &liveScale{Replicas: replicas, Owner: "HorizontalPodAutoscaler/web", CarriedOut: carriedOut}
	}
	now := time.Now()
	fight := &v1alpha1.ScaleTakeBacks{
		From: "HorizontalPodAutoscaler/web", Count: fightAfter, Since: metav1.NewTime(now), Last: metav1.NewTime(now),
	}
	n := ptr.To[int32]
	claim := func(replicas int32) applyconfigs.Scale {
		return applyconfigs.Scale{Replicas: n(replicas), Declared: n(replicas)}
	}
	leave := func(declared int32) applyconfigs.Scale { return applyconfigs.Scale{Declared: n(declared)} }

	for _, row := range []struct {
		name     string
		declared *int32
		policy   v1alpha1.ReplicasConflictPolicy
		live     *liveScale
		last     *lastScale
		action   scaleAction
		apply    applyconfigs.Scale
	}{
		// Delegated.
		{"delegated, others own it: left", nil, yield, theirs(3, nil), nil, scaleLeave, applyconfigs.Scale{}},
		{"delegated, the policy does not matter", nil, force, theirs(3, nil), nil, scaleLeave, applyconfigs.Scale{}},
		{"delegated, scaled to 0: left", nil, yield, theirs(0, nil), nil, scaleLeave, applyconfigs.Scale{}},
		{"delegated, still ours: released", nil, yield, ours(3, n(3)), nil, scaleRelease, applyconfigs.Scale{}},
		{"delegated, ours without a declaration (restored): released", nil, yield, ours(3, nil), nil, scaleRelease, applyconfigs.Scale{}},
		{"delegated, a declaration is still recorded, not ours: left, and the record dropped", nil, yield, theirs(5, n(3)), nil, scaleLeave, applyconfigs.Scale{}},

		// A declaration is carried out once.
		{"declared for the first time: claimed", n(3), yield, theirs(5, nil), nil, scaleDeclare, claim(3)},
		{"declared as it is already, by others: claimed", n(5), yield, theirs(5, nil), nil, scaleDeclare, claim(5)},
		{"declared 0: claimed", n(0), yield, theirs(5, nil), nil, scaleDeclare, claim(0)},
		{"changed: claimed", n(4), yield, ours(3, n(3)), nil, scaleDeclare, claim(4)},
		{"changed while others hold it: claimed", n(4), yield, theirs(5, n(3)), nil, scaleDeclare, claim(4)},
		{"carried out, ours: kept", n(3), yield, ours(3, n(3)), nil, scaleKeep, claim(3)},
		{"carried out, ours, under Force: kept", n(3), force, ours(3, n(3)), nil, scaleKeep, claim(3)},

		// Someone writes afterwards.
		{"carried out, then scaled by others: yielded", n(3), yield, theirs(5, n(3)), nil, scaleYield, leave(3)},
		{"yielded is the default", n(3), "", theirs(5, n(3)), nil, scaleYield, leave(3)},
		{"scaled by others to what is declared: still theirs", n(3), yield, theirs(3, n(3)), nil, scaleYield, leave(3)},
		{"carried out, then scaled by others under Force: taken back", n(3), force, theirs(5, n(3)), nil, scaleTakeBack, claim(3)},
		{"others own what is declared under Force: taken", n(3), force, theirs(3, n(3)), nil, scaleTakeBack, claim(3)},
		{"restored at a scale that is not declared: released", n(3), yield, ours(5, n(3)), nil, scaleRelease, leave(3)},
		{"ours at another value under Force: put back", n(3), force, ours(5, n(3)), nil, scaleTakeBack, claim(3)},
		{"taken back three times from the same writer: backs off", n(3), force, fighter(5, n(3)), nil, scaleBackOff, leave(3)},
		{"a changed declaration does not wait for that", n(4), force, fighter(5, n(3)), nil, scaleDeclare, claim(4)},
		{"nor does Yield", n(3), yield, fighter(5, n(3)), nil, scaleYield, leave(3)},
		{"nor does another writer", n(3), force, theirs(5, n(3)), nil, scaleTakeBack, claim(3)},

		// No StatefulSet.
		{"new, delegated: starts at the default of Kubernetes", nil, yield, nil, nil, scaleLeave, applyconfigs.Scale{}},
		{"new, declared: as declared", n(3), yield, nil, nil, scaleDeclare, claim(3)},
		{"new, declared 0: as declared", n(0), yield, nil, nil, scaleDeclare, claim(0)},
		{"gone, delegated: comes back as it was", nil, yield, nil, &lastScale{Replicas: 7}, scaleRestore, applyconfigs.Scale{Replicas: n(7)}},
		{"gone, delegated, was at 0: comes back at 0", nil, yield, nil, &lastScale{Replicas: 0}, scaleRestore, applyconfigs.Scale{Replicas: n(0)}},
		{"gone, was as declared: as declared", n(3), yield, nil, &lastScale{Replicas: 3, CarriedOut: n(3)}, scaleDeclare, claim(3)},
		{"gone, was yielded: comes back as it was", n(3), yield, nil, &lastScale{Replicas: 5, CarriedOut: n(3)}, scaleRestore, applyconfigs.Scale{Replicas: n(5), Declared: n(3)}},
		{"gone, under Force: as declared", n(3), force, nil, &lastScale{Replicas: 5, CarriedOut: n(3)}, scaleDeclare, claim(3)},
		{"gone, and declared anew meanwhile: as declared", n(4), yield, nil, &lastScale{Replicas: 5, CarriedOut: n(3)}, scaleDeclare, claim(4)},
		{"gone, and declared for the first time meanwhile: as declared", n(4), yield, nil, &lastScale{Replicas: 5}, scaleDeclare, claim(4)},
		{"gone, and the declaration removed meanwhile: comes back as it was", nil, yield, nil, &lastScale{Replicas: 5, CarriedOut: n(3)}, scaleRestore, applyconfigs.Scale{Replicas: n(5)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := decideScale(scaleInput{
				Declared: row.declared, Policy: row.policy, Live: row.live, Last: row.last, TakeBacks: fight, Now: now,
			})
			if got.Reason == "" {
				t.Error("a decision without a reason")
			}
			if got.Action != row.action || !ptr.Equal(got.Apply.Replicas, row.apply.Replicas) ||
				!ptr.Equal(got.Apply.Declared, row.apply.Declared) {
				t.Errorf("got %s, wanted %s", sentence(got), sentence(scaleVerdict{Action: row.action, Apply: row.apply}))
			}
		})
	}
}

// TestDecideScaleNeverMovesWhatNobodyDeclared goes through every input there is, up to three replicas, for the rules
// that have no exception.
func TestDecideScaleNeverMovesWhatNobodyDeclared(t *testing.T) {
	numbers := []*int32{nil, ptr.To[int32](0), ptr.To[int32](1), ptr.To[int32](2)}
	for _, declared := range numbers {
		for _, policy := range []v1alpha1.ReplicasConflictPolicy{"", v1alpha1.ReplicasConflictYield, v1alpha1.ReplicasConflictForce} {
			for _, live := range numbers {
				for _, isOurs := range []bool{false, true} {
					for _, carriedOut := range numbers {
						for _, fights := range []bool{false, true} {
							in := scaleInput{Declared: declared, Policy: policy, Now: start}
							if fights {
								in.TakeBacks = &v1alpha1.ScaleTakeBacks{
									From: "x", Count: fightAfter, Since: metav1.NewTime(start), Last: metav1.NewTime(start),
								}
							}
							if live != nil {
								in.Live = &liveScale{Replicas: *live, Ours: isOurs, Owner: "x", CarriedOut: carriedOut}
							}
							checkScaleRules(t, in, decideScale(in))
						}
					}
				}
			}
		}
	}
}

func checkScaleRules(t *testing.T, in scaleInput, got scaleVerdict) {
	t.Helper()
	describe := fmt.Sprintf("%+v → %s", in, sentence(got))
	if got.Apply.Replicas != nil && in.Live != nil && !ptr.Equal(got.Apply.Replicas, in.Declared) {
		t.Errorf("a value is claimed that nobody declared: %s", describe)
	}
	if in.Live != nil && in.Live.Ours && got.Apply.Replicas == nil && got.Action != scaleRelease {
		t.Errorf("an owned field is dropped, which resets it: %s", describe)
	}
	if !ptr.Equal(got.Apply.Declared, in.Declared) {
		t.Errorf("what is recorded is not what is declared: %s", describe)
	}
	if in.Live != nil && in.Declared != nil && ptr.Equal(in.Live.CarriedOut, in.Declared) && !in.Live.Ours &&
		in.Policy != v1alpha1.ReplicasConflictForce && got.Apply.Replicas != nil {
		t.Errorf("a declaration is carried out twice: %s", describe)
	}
}

func sentence(v scaleVerdict) string {
	number := func(n *int32) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s (replicas %s, record %s)", v.Action, number(v.Apply.Replicas), number(v.Apply.Declared))
}
