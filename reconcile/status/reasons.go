package status

import (
	"slices"

	"mcpserver-operator/reconcile/diagnosis"
)

// Reasons of the conditions. The reasons of pods that do not work are those of package diagnosis.
const (
	reasonNotControlled = "NotControlled"
	reasonInvalidSpec   = "InvalidSpec"
	reasonCommand       = "CommandUnknown"
	reasonRecreate      = "RecreateRequired"
	reasonRejected      = "Rejected"
	reasonPassFailed    = "PassFailed"
	reasonTerminating   = "Terminating"
	reasonProgressing   = "Progressing"
	reasonPodsNotReady  = "PodsNotReady"
	reasonPodsReady     = "PodsReady"

	reasonToolHiveFinalizer = "ToolHiveFinalizer"
	reasonScaledToZero      = "ScaledToZero"
	reasonIdle              = "Idle"
	reasonSuspended         = "Suspended"
	reasonScaleYielded      = "ScaleYielded"
	reasonFieldFight        = "FieldFight"
	reasonFieldKept         = "FieldKept"
	reasonOtherRevision     = "OtherRevision"

	reasonAutoscalerForced     = "AutoscalerAgainstForce"
	reasonAutoscalerUndeclared = "AutoscalerOnUndeclared"
	reasonAutoscalersCompete   = "AutoscalersCompete"
	reasonAutoscalerNoRequest  = "AutoscalerWithoutRequest"

	// ReasonScaleFight is the reason of the condition ScaleConflict in a fight over the scale.
	ReasonScaleFight = "ScaleFight"
)

// reasons are the reasons of conditions that this package sets.
var reasons = []string{
	reasonNotControlled, reasonInvalidSpec, reasonCommand, reasonRecreate, reasonRejected, reasonPassFailed, reasonTerminating,
	reasonProgressing, reasonPodsNotReady, reasonPodsReady, reasonToolHiveFinalizer, reasonScaledToZero, reasonIdle, reasonSuspended,
	reasonScaleYielded, reasonFieldFight, reasonFieldKept, reasonOtherRevision, reasonAutoscalerForced, reasonAutoscalerUndeclared,
	reasonAutoscalersCompete, reasonAutoscalerNoRequest, ReasonScaleFight,
}

// otherReason stands for a reason that another client wrote to the status.
const otherReason = "other"

// KnownReason returns the reason of a condition of the operator, or "other": whoever may write the status can choose a reason, and the number of
// values of a metric label must have a limit.
func KnownReason(reason string) string {
	if slices.Contains(reasons, reason) || slices.Contains(diagnosis.Reasons, diagnosis.Reason(reason)) {
		return reason
	}
	return otherReason
}
