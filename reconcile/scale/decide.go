// Package scale implements the scale protocol of a StatefulSet: what an apply has about the scale, who owns the scale, and when to delay
// take-backs. It is pure. docs/field-ownership.md has the rules.
package scale

import (
	"time"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// Input is the complete input of the decision about the scale.
type Input struct {
	// Declared is spec.replicas of the MCPServer. If nil, the scale is delegated.
	Declared *int32
	// Policy is spec.replicasConflictPolicy of the MCPServer: what to do if another writer scales after a declaration.
	Policy v1beta1.ReplicasConflictPolicy
	// Live is the scale of the StatefulSet; nil if it is absent.
	Live *Live
	// Last is the last observed scale; nil if there is none. It is used only while the StatefulSet is absent.
	Last *Last
	// TakeBacks is how often the operator has restored the declared scale; nil if it has not.
	TakeBacks *v1beta1.ScaleTakeBacks
	// Now is the time of the pass.
	Now time.Time
}

// Live is the scale of a StatefulSet that exists.
type Live struct {
	// Replicas is spec.replicas of the StatefulSet.
	Replicas int32
	// Ours is true if the operator owns spec.replicas.
	Ours bool
	// CarriedOut is the last declaration that was carried out; nil if there is none.
	CarriedOut *int32
}

// Last is the scale of a StatefulSet that existed.
type Last struct {
	// Replicas is spec.replicas as last observed.
	Replicas int32
	// CarriedOut is the last declaration that was carried out; nil if there is none.
	CarriedOut *int32
}

// Action is what a pass does about the scale.
type Action string

const (
	// Declare claims the declared value, because the declaration is new or has changed.
	Declare Action = "Declare"
	// TakeBack claims the declared value again, because another writer has scaled after the declaration.
	TakeBack Action = "TakeBack"
	// Keep repeats the existing claim of the operator.
	Keep Action = "Keep"
	// Leave omits the scale from the apply, because it is delegated.
	Leave Action = "Leave"
	// Yield omits the scale from the apply: the declaration was carried out, and another writer has scaled afterwards.
	Yield Action = "Yield"
	// BackOff omits the scale from the apply for some time, because repeated take-backs would make pods flap.
	BackOff Action = "BackOff"
	// Release gives up the claim without changing the value. An apply that omits an owned scale would reset it.
	Release Action = "Release"
	// Restore creates the StatefulSet with its last scale.
	Restore Action = "Restore"
)

// Verdict is the decision about the scale.
type Verdict struct {
	Action Action
	// Reason is the reason of the decision, for the log and for --preview.
	Reason string
	// Apply is what the apply of the StatefulSet has about the scale. For Release, it is used after the claim was
	// given up; nothing is applied before.
	Apply applyconfigs.Scale
	// RetryAt is when BackOff ends.
	RetryAt time.Time
}

// Writes reports whether the verdict changes the scale or its owner.
func (v Verdict) Writes() bool {
	switch v.Action {
	case Keep, Leave, Yield, BackOff:
		return false
	default:
		return true
	}
}

// Decide implements the scale protocol (docs/field-ownership.md): the operator changes the scale only to a declared
// value, and carries out each declaration once.
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

// decideDelegated decides about an existing StatefulSet without a declaration. The operator must not own the scale.
func decideDelegated(live Live) Verdict {
	if live.Ours {
		return Verdict{Action: Release, Reason: "the scale is delegated, but the operator still owns it"}
	}
	return Verdict{Action: Leave, Reason: "the scale is delegated"}
}

// decideDeclared decides about an existing StatefulSet with a declaration. A declaration is carried out once; the policy
// decides about later writes.
func decideDeclared(declared int32, live Live, in Input) Verdict {
	claim := applyconfigs.Scale{Replicas: &declared, Declared: &declared}
	leave := applyconfigs.Scale{Declared: &declared}
	switch {
	case live.CarriedOut == nil || *live.CarriedOut != declared:
		return Verdict{Action: Declare, Apply: claim, Reason: "the declaration is new or has changed"}
	case live.Ours && live.Replicas == declared:
		return Verdict{Action: Keep, Apply: claim, Reason: "the declaration is carried out"}
	case in.Policy == v1beta1.ReplicasConflictForce:
		// The operator must not omit a scale that it owns, because the apply would reset it.
		if next := NextTakeBack(in.TakeBacks, in.Now); !next.IsZero() && !live.Ours {
			return Verdict{Action: BackOff, Apply: leave, RetryAt: next, Reason: "another writer scales the StatefulSet after each take-back"}
		}
		return Verdict{Action: TakeBack, Apply: claim, Reason: "another writer has scaled after the declaration, and the policy is Force"}
	case live.Ours:
		// The scale belongs to the writer that set it before the StatefulSet was deleted.
		return Verdict{Action: Release, Apply: leave, Reason: "the restored scale is not the declared scale"}
	default:
		return Verdict{Action: Yield, Apply: leave, Reason: "another writer has scaled after the declaration, and the policy is Yield"}
	}
}

// decideAbsentDelegated decides about an absent StatefulSet without a declaration. A recreated StatefulSet keeps its scale.
func decideAbsentDelegated(last *Last) Verdict {
	if last == nil {
		return Verdict{Action: Leave, Reason: "a new StatefulSet starts with the default scale of Kubernetes"}
	}
	return Verdict{
		Action: Restore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas},
		Reason: "a recreated StatefulSet keeps its scale",
	}
}

// decideAbsentDeclared decides about an absent StatefulSet with a declaration. A recreated StatefulSet keeps a scale that was
// yielded to another writer. Otherwise it gets the declared scale.
func decideAbsentDeclared(declared int32, policy v1beta1.ReplicasConflictPolicy, last *Last) Verdict {
	declare := Verdict{
		Action: Declare,
		Apply:  applyconfigs.Scale{Replicas: &declared, Declared: &declared},
		Reason: "a new StatefulSet gets the declared scale",
	}
	yielded := policy != v1beta1.ReplicasConflictForce && last != nil &&
		last.CarriedOut != nil && *last.CarriedOut == declared && last.Replicas != declared
	if !yielded {
		return declare
	}
	return Verdict{
		Action: Restore,
		Apply:  applyconfigs.Scale{Replicas: &last.Replicas, Declared: &declared},
		Reason: "a recreated StatefulSet keeps the scale that was yielded to another writer",
	}
}
