package reconcile

import (
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
}

// liveScale is the scale of a StatefulSet that exists.
type liveScale struct {
	// Replicas is spec.replicas of the StatefulSet.
	Replicas int32
	// Ours is true when the operator owns spec.replicas.
	Ours bool
	// CarriedOut is the declaration in v1alpha1.DeclaredReplicasAnnotation; nil when there is none.
	CarriedOut *int32
}

// lastScale is the scale of a StatefulSet that existed.
type lastScale struct {
	Replicas   int32
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
	// scaleRelease gives up the claim without touching the value. An apply that leaves the scale out would reset it.
	scaleRelease scaleAction = "Release"
	// scaleRestore creates the StatefulSet at the scale that was last seen.
	scaleRestore scaleAction = "Restore"
)

// scaleVerdict is the decision about the scale.
type scaleVerdict struct {
	Action scaleAction
	// Apply is what the apply of the StatefulSet says about the scale. For scaleRelease it says what the applies
	// afterwards will; nothing is applied before the claim is gone.
	Apply applyconfigs.Scale
}

// writesScale reports whether carrying the verdict out changes the scale or who owns it.
func (v scaleVerdict) writesScale() bool {
	switch v.Action {
	case scaleDeclare, scaleTakeBack, scaleRelease, scaleRestore:
		return true
	case scaleKeep, scaleLeave, scaleYield:
		return false
	}
	return true
}

// decideScale is the scale protocol (docs/field-ownership.md): the operator never changes the scale except to what a
// user declares, and carries a declaration out once.
func decideScale(in scaleInput) scaleVerdict {
	switch {
	case in.Live == nil:
		return decideAbsent(in)
	case in.Declared == nil:
		return decideDelegated(*in.Live)
	default:
		return decideDeclared(*in.Declared, in.Policy, *in.Live)
	}
}

// decideDelegated: nobody declared a scale, so the operator may not own it.
func decideDelegated(live liveScale) scaleVerdict {
	if live.Ours {
		return scaleVerdict{Action: scaleRelease}
	}
	return scaleVerdict{Action: scaleLeave}
}

// decideDeclared: a declaration is carried out once; what comes after it is a matter of policy.
func decideDeclared(declared int32, policy v1alpha1.ReplicasConflictPolicy, live liveScale) scaleVerdict {
	claim := applyconfigs.Scale{Replicas: &declared, Declared: &declared}
	leave := applyconfigs.Scale{Declared: &declared}
	switch {
	case live.CarriedOut == nil || *live.CarriedOut != declared:
		return scaleVerdict{Action: scaleDeclare, Apply: claim}
	case live.Ours && live.Replicas == declared:
		return scaleVerdict{Action: scaleKeep, Apply: claim}
	case policy == v1alpha1.ReplicasConflictForce:
		return scaleVerdict{Action: scaleTakeBack, Apply: claim}
	case live.Ours:
		// A restored scale that is not the declaration: it belongs to whoever had set it.
		return scaleVerdict{Action: scaleRelease, Apply: leave}
	default:
		return scaleVerdict{Action: scaleYield, Apply: leave}
	}
}

// decideAbsent: a StatefulSet that comes back keeps its scale, unless a declaration says otherwise.
func decideAbsent(in scaleInput) scaleVerdict {
	if in.Declared == nil {
		if in.Last == nil {
			return scaleVerdict{Action: scaleLeave}
		}
		return scaleVerdict{Action: scaleRestore, Apply: applyconfigs.Scale{Replicas: &in.Last.Replicas}}
	}
	yielded := in.Policy != v1alpha1.ReplicasConflictForce &&
		in.Last != nil && in.Last.CarriedOut != nil && *in.Last.CarriedOut == *in.Declared &&
		in.Last.Replicas != *in.Declared
	if yielded {
		return scaleVerdict{
			Action: scaleRestore,
			Apply:  applyconfigs.Scale{Replicas: &in.Last.Replicas, Declared: in.Declared},
		}
	}
	return scaleVerdict{
		Action: scaleDeclare,
		Apply:  applyconfigs.Scale{Replicas: in.Declared, Declared: in.Declared},
	}
}
