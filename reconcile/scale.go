package reconcile

import (
	"time"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// scaleInput is everything that the decision about the scale may look at.
type scaleInput struct {
	// Declared is spec.replicas of the MCPServer; nil when it is left out, and the scale is delegated.
	Declared *int32
	// Policy says what happens when someone else scales after a declaration.
	Policy v1alpha1.ReplicasConflictPolicy
	// Live is the scale of the StatefulSet; nil when it is absent.
	Live *liveScale
	// Last is the scale that was last seen; nil when none ever was. It counts only while the StatefulSet is absent.
	Last *lastScale
	// TakeBacks is how often the declared number was put back already; nil when it was not.
	TakeBacks *v1alpha1.ScaleTakeBacks
	// Now is the time of the pass.
	Now time.Time
}

// liveScale is the scale of a StatefulSet that exists.
type liveScale struct {
	// Replicas is spec.replicas of the StatefulSet.
	Replicas int32
	// Ours is true when the operator owns spec.replicas.
	Ours bool
	// Owner is who decides the scale, as in status.scale.owner.
	Owner string
	// CarriedOut is the declaration that was carried out last; nil when none was.
	CarriedOut *int32
}

// lastScale is the scale of a StatefulSet that existed.
type lastScale struct {
	// Replicas is spec.replicas as last seen.
	Replicas int32
	// CarriedOut is the declaration that was carried out last; nil when none was.
	CarriedOut *int32
}

// scaleAction names what a pass does about the scale.
type scaleAction string

const (
	// scaleDeclare claims the declared value: it is new, or was changed.
	scaleDeclare scaleAction = "Declare"
	// scaleTakeBack claims the declared value again, from someone who wrote after the declaration.
	scaleTakeBack scaleAction = "TakeBack"
	// scaleKeep repeats the claim that the operator has.
	scaleKeep scaleAction = "Keep"
	// scaleLeave leaves the scale out of the apply: it is delegated.
	scaleLeave scaleAction = "Leave"
	// scaleYield leaves the scale out of the apply: it is declared, carried out, and someone else wrote afterwards.
	scaleYield scaleAction = "Yield"
	// scaleBackOff leaves the scale out of the apply for a while: taking it back again and again would make pods flap.
	scaleBackOff scaleAction = "BackOff"
	// scaleRelease gives up the claim without touching the value. An apply that leaves the scale out would reset it.
	scaleRelease scaleAction = "Release"
	// scaleRestore creates the StatefulSet at the scale that it had.
	scaleRestore scaleAction = "Restore"
)

// scaleVerdict is the decision about the scale.
type scaleVerdict struct {
	Action scaleAction
	// Reason is why, in words for the log.
	Reason string
	// Apply is what the apply of the StatefulSet says about the scale. For scaleRelease it says what the applies
	// afterwards will; nothing is applied before the claim is gone.
	Apply applyconfigs.Scale
	// RetryAt is when scaleBackOff ends.
	RetryAt time.Time
}

// writesScale reports whether carrying the verdict out changes the scale or who owns it.
func (v scaleVerdict) writesScale() bool {
	switch v.Action {
	case scaleKeep, scaleLeave, scaleYield, scaleBackOff:
		return false
	default:
		return true
	}
}

// decideScale is the scale protocol (docs/field-ownership.md): the operator never changes the scale except to what a
// user declares, and carries a declaration out once.
func decideScale(in scaleInput) scaleVerdict {
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
func decideDelegated(live liveScale) scaleVerdict {
	if live.Ours {
		return scaleVerdict{Action: scaleRelease, Reason: "the scale is delegated, but still claimed"}
	}
	return scaleVerdict{Action: scaleLeave, Reason: "the scale is delegated"}
}

// decideDeclared: a declaration is carried out once; what comes after it is a matter of policy.
func decideDeclared(declared int32, live liveScale, in scaleInput) scaleVerdict {
	claim := applyconfigs.Scale{Replicas: &declared, Declared: &declared}
	leave := applyconfigs.Scale{Declared: &declared}
	switch {
	case live.CarriedOut == nil || *live.CarriedOut != declared:
		return scaleVerdict{Action: scaleDeclare, Apply: claim, Reason: "the declaration is new, or was changed"}
	case live.Ours && live.Replicas == declared:
		return scaleVerdict{Action: scaleKeep, Apply: claim, Reason: "the declaration is carried out"}
	case in.Policy == v1alpha1.ReplicasConflictForce:
		// What the operator owns itself it may not leave out: that would reset it.
		if next := nextTakeBack(in.TakeBacks, live.Owner, in.Now); !next.IsZero() && !live.Ours {
			return scaleVerdict{Action: scaleBackOff, Apply: leave, RetryAt: next, Reason: "someone scales it each time it is put back"}
		}
		return scaleVerdict{Action: scaleTakeBack, Apply: claim, Reason: "someone scaled after the declaration, and the policy is Force"}
	case live.Ours:
		// It belongs to whoever had set it before the StatefulSet was deleted.
		return scaleVerdict{Action: scaleRelease, Apply: leave, Reason: "the restored scale is not the declared one"}
	default:
		return scaleVerdict{Action: scaleYield, Apply: leave, Reason: "someone scaled after the declaration, and the policy is Yield"}
	}
}

// decideAbsentDelegated: a StatefulSet that comes back keeps its scale.
func decideAbsentDelegated(last *lastScale) scaleVerdict {
	if last == nil {
		return scaleVerdict{Action: scaleLeave, Reason: "a new StatefulSet starts with the default of Kubernetes"}
	}
	return scaleVerdict{
		Action: scaleRestore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas},
		Reason: "a StatefulSet that comes back keeps its scale",
	}
}

// decideAbsentDeclared: a StatefulSet that comes back keeps its scale if that had been yielded to someone; otherwise it
// is as declared.
func decideAbsentDeclared(declared int32, policy v1alpha1.ReplicasConflictPolicy, last *lastScale) scaleVerdict {
	declare := scaleVerdict{
		Action: scaleDeclare,
		Apply:  applyconfigs.Scale{Replicas: &declared, Declared: &declared},
		Reason: "a new StatefulSet is as declared",
	}
	yielded := policy != v1alpha1.ReplicasConflictForce && last != nil &&
		last.CarriedOut != nil && *last.CarriedOut == declared && last.Replicas != declared
	if !yielded {
		return declare
	}
	return scaleVerdict{
		Action: scaleRestore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas, Declared: &declared},
		Reason: "a StatefulSet that comes back keeps the scale that had been yielded",
	}
}
