// Package status reports what a pass saw and did: the status of the MCPServer, its conditions, and events. It is pure. All conditions are
// computed here, from the snapshot and from the results of the plan.
package status

import (
	"fmt"
	"slices"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// Next returns the status after a pass. It starts from the current status; fields that the pass did not observe keep their values.
func Next(s *observe.Snapshot, p plan.Plan, results plan.Results) v1beta1.MCPServerStatus {
	status := *s.Server.Status.DeepCopy()
	if !s.Server.Spec.Suspend {
		status.ObservedGeneration = s.Server.Generation
	}
	status.URL = applyconfigs.URL(s.Server)
	if len(s.Fixed.PodLabels) > 0 {
		status.Selector = metav1.FormatLabelSelector(metav1.SetAsLabelSelector(s.Fixed.PodLabels))
	}
	status.Replicas, status.ReadyReplicas, status.Ready = 0, 0, "0/0"
	if set := s.Children.StatefulSet; set != nil {
		status.Replicas, status.ReadyReplicas = set.Status.Replicas, set.Status.ReadyReplicas
		status.Ready = fmt.Sprintf("%d/%d", serving(s), observe.ReplicasOf(set))
		if !results.AreStale() && !IsOutdated(p, results) {
			status.Scale = scaleSeen(s) // otherwise the snapshot is older than the last write
		}
	}
	if !s.Server.Spec.Suspend {
		status.KeptFields = results.Kept(s.Server.Status.KeptFields)
	}
	status.Image = imageOf(s)
	conditions := healthConditions(s, p, results)
	conditions = append(conditions, suspended(s.Server)...)
	conditions = append(conditions, scaleConflict(s, p.Scale)...)
	conditions = append(conditions, autoscalerProblem(findAutoscalerProblems(s.Server, s.Children.StatefulSet, s.Autoscalers))...)
	conditions = append(conditions, fieldConflict(results, status.KeptFields)...)
	conditions = append(conditions, updateAvailable(s.Server, p.Update)...)
	setConditions(&status, conditions, s.Now)
	status.Phase = phaseOf(status.Conditions)
	return status
}

// IsOutdated reports whether the next pass, which follows at once, has more to report than this pass: the StatefulSet was created, or its
// scale changed. The status already has the new scale.
func IsOutdated(p plan.Plan, results plan.Results) bool {
	set := results.StatefulSet()
	return set != nil && (set.Step.Action == plan.Create || p.Scale.Writes())
}

// NotSeen returns the status after a pass that could not read all objects. Only the condition with the error changes.
func NotSeen(server *v1beta1.MCPServer, err error, now metav1.Time) v1beta1.MCPServerStatus {
	status := *server.Status.DeepCopy()
	conditions := slices.DeleteFunc(slices.Clone(status.Conditions), func(c metav1.Condition) bool {
		return !slices.Contains(v1beta1.Conditions, c.Type) || c.Type == v1beta1.ConditionReconciling
	})
	failed := reconciling(reasonPassFailed, "the operator cannot read all objects that it needs, and retries: "+err.Error())
	if apimeta.FindStatusCondition(conditions, v1beta1.ConditionReady) == nil {
		conditions = append(conditions, failed...)
	} else {
		conditions = append(conditions, failed[1:]...)
	}
	setConditions(&status, conditions, now)
	if status.Phase == "" {
		status.Phase = phaseOf(status.Conditions)
	}
	return status
}

// Terminating returns the status of an MCPServer whose children are being deleted.
func Terminating(server *v1beta1.MCPServer, now metav1.Time) v1beta1.MCPServerStatus {
	status := *server.Status.DeepCopy()
	status.ObservedGeneration = server.Generation
	status.Phase = v1beta1.PhaseTerminating
	setConditions(&status, reconciling(reasonTerminating, "the MCPServer and its children are being deleted"+finalizersMessage(server)), now)
	return status
}

// finalizersMessage returns the continuation of a message about a deletion that waits for finalizers of other clients; empty if it does not.
func finalizersMessage(server *v1beta1.MCPServer) string {
	var names []string
	command := ""
	for i, finalizer := range server.Finalizers {
		if finalizer == metav1.FinalizerDeleteDependents || finalizer == metav1.FinalizerOrphanDependents {
			continue
		}
		names = append(names, fmt.Sprintf("%.253q", finalizer))
		if finalizer == v1beta1.ToolHiveFinalizer {
			command = fmt.Sprintf(". If ToolHive's operator no longer runs, run: kubectl -n %s patch %s %s --type=json -p "+
				`'[{"op":"test","path":"/metadata/finalizers/%d","value":%q},{"op":"remove","path":"/metadata/finalizers/%d"}]'`,
				server.Namespace, mcpServerResource, server.Name, i, finalizer, i)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(". The deletion waits until other clients remove their finalizers %s%s", strings.Join(names[:min(len(names), mostFields)], ", "), command)
}

// mostMessage is the maximum length of the message of a condition, in bytes. The schema of the CRD allows 32 KiB, and the API server rejects
// a status with a longer message. The quoted texts of webhooks, pods and autoscalers have no limit.
const mostMessage = 8 << 10

// setConditions replaces the conditions of the operator with the given ones. It does not change conditions of other writers.
func setConditions(status *v1beta1.MCPServerStatus, conditions []metav1.Condition, now metav1.Time) {
	for _, own := range v1beta1.Conditions {
		if !slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == own }) {
			apimeta.RemoveStatusCondition(&status.Conditions, own)
		}
	}
	for _, condition := range conditions {
		condition.ObservedGeneration = max(status.ObservedGeneration, 0) // -1 in a status that was never written
		condition.LastTransitionTime = now                               // used only if the condition changes its status
		condition.Message = Bounded(condition.Message, mostMessage)
		apimeta.SetStatusCondition(&status.Conditions, condition)
		written := apimeta.FindStatusCondition(status.Conditions, condition.Type)
		written.LastTransitionTime = notAfter(now, written.LastTransitionTime)
	}
}

// Bounded returns the text, cut to at most the given number of bytes at a character boundary.
func Bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

func phaseOf(conditions []metav1.Condition) v1beta1.Phase {
	switch {
	case apimeta.IsStatusConditionTrue(conditions, v1beta1.ConditionStalled):
		return v1beta1.PhaseFailed
	case !apimeta.IsStatusConditionTrue(conditions, v1beta1.ConditionReady):
		return v1beta1.PhasePending
	case apimeta.FindStatusCondition(conditions, v1beta1.ConditionReady).Reason == reasonScaledToZero:
		return v1beta1.PhaseStopped
	default: // also for Idle: existing clients, and the CRD before an upgrade, do not know a separate phase
		return v1beta1.PhaseReady
	}
}
