package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
)

// Reasons of the conditions.
const (
	reasonNotControlled = "NotControlled"
	reasonInvalidSpec   = "InvalidSpec"
	reasonRecreate      = "RecreateRequired"
	reasonRejected      = "Rejected"
	reasonPassFailed    = "PassFailed"
	reasonTerminating   = "Terminating"
	reasonProgressing   = "Progressing"
	reasonPodsNotReady  = "PodsNotReady"
	reasonPodsReady     = "PodsReady"
	reasonScaledToZero  = "ScaledToZero"
	reasonIdle          = "Idle"
	reasonScaleYielded  = "ScaleYielded"
	reasonScaleFight    = "ScaleFight"
	reasonFieldFight    = "FieldFight"
)

// ownConditions are the types of condition that the operator sets. Conditions of other types belong to others.
var ownConditions = []string{
	v1alpha1.ConditionReady,
	v1alpha1.ConditionReconciling,
	v1alpha1.ConditionStalled,
	v1alpha1.ConditionScaleConflict,
	v1alpha1.ConditionAutoscalerProblem,
	v1alpha1.ConditionFieldConflict,
}

// nextStatus says what a pass saw and did. It starts from the status there is: what was not seen stays as last seen.
func nextStatus(p *pass, passErr error) v1alpha1.MCPServerStatus {
	status := *p.server.Status.DeepCopy()
	status.ObservedGeneration = p.server.Generation
	status.URL = applyconfigs.URL(p.server)
	if len(p.fixed.PodLabels) > 0 {
		status.Selector = metav1.FormatLabelSelector(metav1.SetAsLabelSelector(p.fixed.PodLabels))
	}
	status.Replicas, status.ReadyReplicas, status.Ready = 0, 0, "0/0"
	if set := p.children.statefulSet; set != nil {
		status.Replicas, status.ReadyReplicas = set.Status.Replicas, set.Status.ReadyReplicas
		status.Ready = fmt.Sprintf("%d/%d", p.serving(), replicasOf(set))
		if !p.stale && !p.isOutdated() {
			status.Scale = nextScale(p) // otherwise it would be that of before a write
		}
	}
	conditions := healthConditions(p, passErr)
	conditions = append(conditions, scaleConflict(p)...)
	conditions = append(conditions, autoscalerProblem(findAutoscalerProblems(p.server, p.children.statefulSet, p.autoscalers))...)
	conditions = append(conditions, fieldConflict(p)...)
	setConditions(&status, conditions, p.now)
	status.Phase = phaseOf(status.Conditions)
	return status
}

// terminatingStatus is the status of an MCPServer that waits for its children to be deleted.
func terminatingStatus(server *v1alpha1.MCPServer, now metav1.Time) v1alpha1.MCPServerStatus {
	status := *server.Status.DeepCopy()
	status.ObservedGeneration = server.Generation
	status.Phase = v1alpha1.PhaseTerminating
	setConditions(&status, reconciling(reasonTerminating, "the MCPServer and its children are being deleted"), now)
	return status
}

// setConditions makes the given conditions the only ones of the operator, and leaves those of others alone.
func setConditions(status *v1alpha1.MCPServerStatus, conditions []metav1.Condition, now metav1.Time) {
	for _, own := range ownConditions {
		if !slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == own }) {
			apimeta.RemoveStatusCondition(&status.Conditions, own)
		}
	}
	for _, condition := range conditions {
		condition.ObservedGeneration = status.ObservedGeneration
		condition.LastTransitionTime = now // counts only if the status changes
		apimeta.SetStatusCondition(&status.Conditions, condition)
	}
}

// healthConditions are Ready and, while it is False, one of Reconciling and Stalled (the convention of kstatus).
func healthConditions(p *pass, passErr error) []metav1.Condition {
	var invalid *invalidSpecError
	changed := p.changedClaims()
	switch {
	case len(p.refusals) > 0:
		return stalled(reasonNotControlled, refusalMessage(p.refusals))
	case errors.As(passErr, &invalid):
		return stalled(reasonInvalidSpec, invalid.Error()+
			". What runs stays as it is; the operator goes on by itself when the MCPServer is corrected")
	case len(changed) > 0:
		return stalled(reasonRecreate, recreateMessage(p.children.statefulSet, changed, passErr))
	case isFixedServiceField(passErr):
		return stalled(reasonRecreate, fmt.Sprintf("%s. Kubernetes lets nobody change that of a Service. To have it created "+
			"anew, with another address, run: kubectl -n %s delete service %s. To keep it as it is, undo the change",
			passErr, p.server.Namespace, applyconfigs.ClientServiceName(p.server.Name)))
	case isKindUnknownYet(passErr):
		return reconciling(reasonPassFailed, passErr.Error())
	case apierrors.IsInvalid(passErr) || apierrors.IsForbidden(passErr):
		return stalled(reasonRejected, passErr.Error())
	case passErr != nil:
		return reconciling(reasonPassFailed, passErr.Error())
	}
	if p.wroteStatefulSet {
		return reconciling(reasonProgressing, "the StatefulSet has a change that its controller has not seen yet")
	}
	if len(p.children.stray) > 0 {
		return reconciling(reasonProgressing, strayMessage(p))
	}
	reason, message := unreadiness(p.children.statefulSet, p.serving(), p.children.pods.terminating)
	if pods := p.children.pods; reason == "" && len(pods.surplus) > 0 {
		reason, message = reasonProgressing, fmt.Sprintf("pod %s does not exist, and pod %s is not asked for", pods.missing[0], pods.surplus[0])
	}
	if reason != "" {
		return reconciling(explain(reason, message, p.children.statefulSet, p.children.pods))
	}
	replicas := replicasOf(p.children.statefulSet)
	if replicas == 0 {
		return ready(zeroScale(p.server, p.currentScaleOwner(), p.autoscalers))
	}
	return ready(reasonPodsReady, fmt.Sprintf("%d of %d pods are ready", replicas, replicas)+findingsMessage(p.children.pods.recovered))
}

// serving is how many pods traffic reaches. The StatefulSet counts a pod that is being deleted as ready until its containers
// have ended, and one above the scale as well.
func (p *pass) serving() int32 {
	set := p.children.statefulSet
	if set == nil {
		return 0
	}
	return min(max(set.Status.ReadyReplicas-p.children.pods.readyStill, 0), replicasOf(set))
}

// unreadiness says what a StatefulSet lacks until every pod that it asks for is ready and up to date. Serving is how many pods
// traffic reaches, terminating how many are being deleted.
func unreadiness(set *appsv1.StatefulSet, serving, terminating int32) (reason, message string) {
	switch {
	case set == nil:
		return reasonProgressing, "the StatefulSet does not exist yet"
	case !set.DeletionTimestamp.IsZero():
		return reasonProgressing, "the StatefulSet is being deleted, and comes back when it is gone"
	case set.Status.ObservedGeneration < set.Generation:
		return reasonProgressing, "the StatefulSet has a change that its controller has not seen yet"
	}
	wanted := replicasOf(set)
	toUpdate := podsToUpdate(set)
	switch {
	case set.Status.Replicas != wanted:
		return reasonProgressing, fmt.Sprintf("%d pods exist, %d are asked for", set.Status.Replicas, wanted)
	// A pod that is being deleted counts as no pod that is up to date, whatever its revision.
	case set.Status.UpdatedReplicas < toUpdate && (set.Status.UpdatedReplicas+terminating < toUpdate || serving >= wanted):
		return reasonProgressing, fmt.Sprintf("%d of %d pods are up to date", set.Status.UpdatedReplicas, toUpdate)
	case serving < wanted:
		return reasonPodsNotReady, fmt.Sprintf("%d of %d pods are ready", serving, wanted)
	case set.Spec.MinReadySeconds > 0 && set.Status.AvailableReplicas < wanted:
		return reasonPodsNotReady, fmt.Sprintf("%d of %d pods have been ready for minReadySeconds", set.Status.AvailableReplicas, wanted)
	}
	return "", ""
}

// podsToUpdate returns how many pods the StatefulSet controller is to bring up to date by itself.
func podsToUpdate(set *appsv1.StatefulSet) int32 {
	strategy := set.Spec.UpdateStrategy
	switch {
	case strategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return 0
	case strategy.RollingUpdate != nil:
		return max(0, replicasOf(set)-ptr.Deref(strategy.RollingUpdate.Partition, 0))
	default:
		return replicasOf(set)
	}
}

// strayMessage says what a StatefulSet that was deleted waits for before it comes back.
func strayMessage(p *pass) string {
	return fmt.Sprintf("the StatefulSet was deleted, and comes back when the garbage collector of Kubernetes has begun to delete its pods: "+
		"it has not with %d, such as %s. If it does not, run: kubectl -n %s delete pod -l %s",
		len(p.children.stray), p.children.stray[0], p.server.Namespace,
		metav1.FormatLabelSelector(metav1.SetAsLabelSelector(p.fixed.PodLabels)))
}

// explain adds to why an MCPServer is not ready what was found out about it. The first finding gives the reason.
func explain(reason, message string, set *appsv1.StatefulSet, pods podsSeen) (explainedReason, explainedMessage string) {
	if pods.terminating == 1 {
		message += fmt.Sprintf("; 1 pod is terminating, for which it has a grace period of %d s", gracePeriodOf(set))
	} else if pods.terminating > 1 {
		message += fmt.Sprintf("; %d pods are terminating, for which each has a grace period of %d s", pods.terminating, gracePeriodOf(set))
	}
	if len(pods.unwell) > 0 {
		reason = string(pods.unwell[0].Reason)
	}
	if pods.blocked != nil {
		reason = string(pods.blocked.Reason)
		message += "; " + pods.blocked.Message
	}
	return reason, message + findingsMessage(pods.unwell)
}

// mostFindings is how many pods a condition names. The rest is in kubectl get pods.
const mostFindings = 3

// findingsMessage continues a message with what was found in pods.
func findingsMessage(findings []podFinding) string {
	var message string
	for _, finding := range findings[:min(len(findings), mostFindings)] {
		message += fmt.Sprintf("; pod %s: %s", finding.pod, finding.Message)
	}
	if more := len(findings) - mostFindings; more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	return message
}

// changedClaims returns the claims that cannot be carried out in the StatefulSet that there is.
func (p *pass) changedClaims() []string {
	if p.children.statefulSet == nil {
		return nil
	}
	return applyconfigs.ChangedClaims(p.server, p.children.statefulSet)
}

func recreateMessage(set *appsv1.StatefulSet, changed []string, passErr error) string {
	message := fmt.Sprintf("spec.volumeClaimTemplates (%s) differ from those that StatefulSet %q was created with, and "+
		"Kubernetes lets nobody change them. To have the StatefulSet created anew while its pods, its volumes and its scale "+
		"stay, run: kubectl -n %s delete statefulset %s --cascade=orphan. A claim that exists keeps its size. If a claim is "+
		"new, delete the pods one after the other afterwards: they get it when they are created, and the StatefulSet cannot "+
		"be scaled or rolled out before. To keep it as it is, undo the change",
		strings.Join(changed, ", "), set.Name, set.Namespace, set.Name)
	if passErr != nil {
		message += "; until then: " + passErr.Error()
	}
	return message
}

// isFixedServiceField reports whether the API server refused to change a field of a Service that cannot be changed.
func isFixedServiceField(err error) bool {
	return hasCause(err, func(cause metav1.StatusCause) bool {
		return strings.HasPrefix(cause.Field, "spec.ipFamilies") || cause.Field == "spec.loadBalancerClass"
	})
}

// isKindUnknownYet reports whether the API server refused an owner reference because it has not noticed the CRD of
// MCPServer yet: its admission plugin OwnerReferencesPermissionEnforcement looks every 10 s, and says Forbidden until then.
func isKindUnknownYet(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot find RESTMapping")
}

func ready(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}

func reconciling(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}

func stalled(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}

func refusalMessage(refusals []refusal) string {
	var all []string
	for _, refused := range refusals {
		whose := "nothing controls it"
		if refused.Owner != "" {
			whose = refused.Owner + " controls it"
		}
		if len(refused.Managers) > 0 {
			whose += ", written by " + strings.Join(refused.Managers, ", ")
		}
		all = append(all, fmt.Sprintf("%s %q exists and is not of this MCPServer (%s)", refused.Kind, refused.Name, whose))
	}
	return strings.Join(all, "; ") + ": left untouched. Delete it, or give this MCPServer another name; " +
		"the operator goes on by itself when the name is free"
}

func phaseOf(conditions []metav1.Condition) v1alpha1.Phase {
	switch {
	case apimeta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled):
		return v1alpha1.PhaseFailed
	case !apimeta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReady):
		return v1alpha1.PhasePending
	case apimeta.FindStatusCondition(conditions, v1alpha1.ConditionReady).Reason == reasonScaledToZero:
		return v1alpha1.PhaseStopped
	default: // Idle as well: a phase of its own would be one more than existing clients, and the CRD of before an upgrade, know
		return v1alpha1.PhaseReady
	}
}
