// Package scale is the protocol of the scale of a StatefulSet: what an apply says about it, who owns it, and when to stop putting it
// back. It is pure. docs/field-ownership.md has the rules.
package scale

import (
	"time"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// Input is everything that the decision about the scale may look at.
type Input struct {
	// Declared is spec.replicas of the MCPServer; nil when it is left out, and the scale is delegated.
	Declared *int32
	// Policy says what happens when someone else scales after a declaration.
	Policy v1alpha1.ReplicasConflictPolicy
	// Live is the scale of the StatefulSet; nil when it is absent.
	Live *Live
	// Last is the scale that was last seen; nil when none ever was. It counts only while the StatefulSet is absent.
	Last *Last
	// TakeBacks is how often the declared number was put back already; nil when it was not.
	TakeBacks *v1alpha1.ScaleTakeBacks
	// Now is the time of the pass.
	Now time.Time
}

// Live is the scale of a StatefulSet that exists.
type Live struct {
	// Replicas is spec.replicas of the StatefulSet.
	Replicas int32
	// Ours is true when the operator owns spec.replicas.
	Ours bool
	// CarriedOut is the declaration that was carried out last; nil when none was.
	CarriedOut *int32
}

// Last is the scale of a StatefulSet that existed.
type Last struct {
	// Replicas is spec.replicas as last seen.
	Replicas int32
	// CarriedOut is the declaration that was carried out last; nil when none was.
	CarriedOut *int32
}

// Action names what a pass does about the scale.
type Action string

const (
	// Declare claims the declared value: it is new, or was changed.
	Declare Action = "Declare"
	// TakeBack claims the declared value again, from someone who wrote after the declaration.
	TakeBack Action = "TakeBack"
	// Keep repeats the claim that the operator has.
	Keep Action = "Keep"
	// Leave leaves the scale out of the apply: it is delegated.
	Leave Action = "Leave"
	// Yield leaves the scale out of the apply: it is declared, carried out, and someone else wrote afterwards.
	Yield Action = "Yield"
	// BackOff leaves the scale out of the apply for a while: taking it back again and again would make pods flap.
	BackOff Action = "BackOff"
	// Release gives up the claim without touching the value. An apply that leaves the scale out would reset it.
	Release Action = "Release"
	// Restore creates the StatefulSet at the scale that it had.
	Restore Action = "Restore"
)

// Verdict is the decision about the scale.
type Verdict struct {
	Action Action
	// Reason is why, in words for the log.
	Reason string
	// Apply is what the apply of the StatefulSet says about the scale. For Release it says what the applies
	// afterwards will; nothing is applied before the claim is gone.
	Apply applyconfigs.Scale
	// RetryAt is when BackOff ends.
	RetryAt time.Time
}

// Writes reports whether carrying the verdict out changes the scale or who owns it.
func (v Verdict) Writes() bool {
	switch v.Action {
	case Keep, Leave, Yield, BackOff:
		return false
	default:
		return true
	}
}

// Decide is the scale protocol (docs/field-ownership.md): the operator never changes the scale except to what a
// user declares, and carries a declaration out once.
func Decide(in Input) Verdict {
	switch {
	case in.Live == nil && in.Declared == nil:
		return decideAbsentDelegated(in.Last)
	case in.Live == nil:
		return decideAbsentDeclared(*in.Declared, in.Policy, in.Last)
	case in.Declared == nil:
		return decideDelegated(*in.Live)
	default:
		return decideDeclared(*in.Declared, *in.Live, in)
	}
}

// decideDelegated: nobody declared a scale, so the operator may not own it.
func decideDelegated(live Live) Verdict {
	if live.Ours {
		return Verdict{Action: Release, Reason: "the scale is delegated, but still claimed"}
	}
	return Verdict{Action: Leave, Reason: "the scale is delegated"}
}

// decideDeclared: a declaration is carried out once; what comes after it is a matter of policy.
func decideDeclared(declared int32, live Live, in Input) Verdict {
	claim := applyconfigs.Scale{Replicas: &declared, Declared: &declared}
	leave := applyconfigs.Scale{Declared: &declared}
	switch {
	case live.CarriedOut == nil || *live.CarriedOut != declared:
		return Verdict{Action: Declare, Apply: claim, Reason: "the declaration is new, or was changed"}
	case live.Ours && live.Replicas == declared:
		return Verdict{Action: Keep, Apply: claim, Reason: "the declaration is carried out"}
	case in.Policy == v1alpha1.ReplicasConflictForce:
		// What the operator owns itself it may not leave out: that would reset it.
		if next := NextTakeBack(in.TakeBacks, in.Now); !next.IsZero() && !live.Ours {
			return Verdict{Action: BackOff, Apply: leave, RetryAt: next, Reason: "someone scales it each time it is put back"}
		}
		return Verdict{Action: TakeBack, Apply: claim, Reason: "someone scaled after the declaration, and the policy is Force"}
	case live.Ours:
		// It belongs to whoever had set it before the StatefulSet was deleted.
		return Verdict{Action: Release, Apply: leave, Reason: "the restored scale is not the declared one"}
	default:
		return Verdict{Action: Yield, Apply: leave, Reason: "someone scaled after the declaration, and the policy is Yield"}
	}
}

// decideAbsentDelegated: a StatefulSet that comes back keeps its scale.
func decideAbsentDelegated(last *Last) Verdict {
	if last == nil {
		return Verdict{Action: Leave, Reason: "a new StatefulSet starts with the default of Kubernetes"}
	}
	return Verdict{
		Action: Restore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas},
		Reason: "a StatefulSet that comes back keeps its scale",
	}
}

// decideAbsentDeclared: a StatefulSet that comes back keeps its scale if that had been yielded to someone; otherwise it
// is as declared.
func decideAbsentDeclared(declared int32, policy v1alpha1.ReplicasConflictPolicy, last *Last) Verdict {
	declare := Verdict{
		Action: Declare,
		Apply:  applyconfigs.Scale{Replicas: &declared, Declared: &declared},
		Reason: "a new StatefulSet is as declared",
	}
	yielded := policy != v1alpha1.ReplicasConflictForce && last != nil &&
		last.CarriedOut != nil && *last.CarriedOut == declared && last.Replicas != declared
	if !yielded {
		return declare
	}
	return Verdict{
		Action: Restore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas, Declared: &declared},
		Reason: "a StatefulSet that comes back keeps the scale that had been yielded",
	}
}
