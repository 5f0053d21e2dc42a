package status

import (
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/act"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
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
	reasonSuspended     = "Suspended"
	reasonScaleYielded  = "ScaleYielded"
	reasonScaleFight    = "ScaleFight"
	reasonFieldFight    = "FieldFight"
	reasonFieldKept     = "FieldKept"
	reasonOtherRevision = "OtherRevision"
)

// healthConditions are Ready and, while it is False, one of Reconciling and Stalled (the convention of kstatus).
func healthConditions(s *observe.Snapshot, results plan.Results) []metav1.Condition {
	if s.Server.Spec.Suspend {
		return suspendedHealth(s)
	}
	if condition := foreignConditions(s); condition != nil {
		return condition
	}
	if condition := failureConditions(s, results); condition != nil {
		return condition
	}
	if results.StatefulSet() != nil {
		return reconciling(reasonProgressing, "the StatefulSet has a change that its controller has not seen yet")
	}
	if len(s.Stray) > 0 {
		return reconciling(reasonProgressing, strayMessage(s))
	}
	return podConditions(s)
}

// failureConditions say why steps of the plan were not carried out; nil if all were.
func failureConditions(s *observe.Snapshot, results plan.Results) []metav1.Condition {
	err := Failure(results)
	var invalid *plan.InvalidSpecError
	if errors.As(err, &invalid) {
		return stalled(reasonInvalidSpec, invalid.Error()+
			". What runs stays as it is; the operator goes on by itself when the MCPServer is corrected")
	}
	if set := s.Children.StatefulSet; set != nil {
		if changed := applyconfigs.ChangedClaims(s.Server, set); len(changed) > 0 {
			return stalled(reasonRecreate, recreateMessage(set, changed, err))
		}
	}
	switch {
	case err == nil:
		return nil
	case isFixedServiceField(err):
		return stalled(reasonRecreate, fmt.Sprintf("%s. Kubernetes lets nobody change that of a Service. To have it created "+
			"anew, with another address, run: kubectl -n %s delete service %s. To keep it as it is, undo the change",
			err, s.Server.Namespace, applyconfigs.ClientServiceName(s.Server.Name)))
	case !isKindUnknownYet(err) && isRejection(err):
		return stalled(reasonRejected, err.Error()+unchangedMessage(results))
	default:
		return reconciling(reasonPassFailed, err.Error())
	}
}

// unchangedMessage says what else is not carried out because the API server takes an object as a whole or not at all.
func unchangedMessage(results plan.Results) string {
	var names []string
	for i := range results {
		if step := &results[i].Step; results[i].Outcome == plan.Failed && step.Live != nil {
			names = append(names, step.String())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ". Until this is corrected, no other change reaches " + strings.Join(names, " and ")
}

// Failure is why steps of a plan failed; nil if none did.
func Failure(results plan.Results) error {
	var errs []error
	for i := range results {
		errs = append(errs, results[i].Err)
	}
	return errors.Join(errs...)
}

// isRejection reports whether err has an answer of the API server, or of an admission webhook, that stays the same until somebody changes
// something: every answer that blames the request, but for those that only time or a fresh look is needed for.
func isRejection(err error) bool {
	for _, one := range flattened(err) {
		var status apierrors.APIStatus
		if !errors.As(one, &status) {
			continue
		}
		code := status.Status().Code
		passing := apierrors.IsTooManyRequests(one) || apierrors.IsTimeout(one) || apierrors.IsUnauthorized(one) || apierrors.IsNotFound(one)
		if code >= 400 && code < 500 && !passing {
			return true
		}
	}
	return false
}

// flattened are the errors that were joined, also those that were joined before.
func flattened(err error) []error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, flattened(one)...)
	}
	return all
}

// podConditions say how the pods are.
func podConditions(s *observe.Snapshot) []metav1.Condition {
	set, pods := s.Children.StatefulSet, s.Pods
	reason, message := unreadiness(set, serving(s), pods.Terminating)
	if reason == "" && len(pods.Surplus) > 0 {
		reason, message = reasonProgressing, fmt.Sprintf("pod %s does not exist, and pod %s is not asked for", pods.Missing[0], pods.Surplus[0])
	}
	if reason != "" {
		reason, message = explain(reason, message, set, pods)
		return reconciling(reason, message+orderedAdvice(set, pods))
	}
	replicas := observe.ReplicasOf(set)
	if replicas == 0 {
		return ready(zeroScale(s.Server, s.ScaleOwner(), s.Autoscalers))
	}
	return ready(reasonPodsReady, fmt.Sprintf("%d of %d pods are ready", replicas, replicas)+findingsMessage(pods.Recovered))
}

// orderedAdvice continues a message about pods that do not work in the middle of a rollout with podManagementPolicy OrderedReady, as a
// StatefulSet that was taken over may have: a corrected template does not reach such a pod (kubernetes#67250).
func orderedAdvice(set *appsv1.StatefulSet, pods observe.Pods) string {
	if set == nil || len(pods.Unwell) == 0 || set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement ||
		set.Status.CurrentRevision == set.Status.UpdateRevision {
		return ""
	}
	return fmt.Sprintf(". With podManagementPolicy OrderedReady, Kubernetes waits for that pod, also after the MCPServer is corrected. "+
		"Then run: kubectl -n %s delete pod %s", set.Namespace, pods.Unwell[0].Pod)
}

// suspended is the condition that is present while the operator is suspended for an MCPServer.
func suspended(server *v1alpha1.MCPServer) []metav1.Condition {
	if !server.Spec.Suspend {
		return nil
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionSuspended, Status: metav1.ConditionTrue, Reason: reasonSuspended,
		Message: "spec.suspend is true: the operator writes nothing for this MCPServer but its status. To resume, set spec.suspend to false",
	}}
}

// suspendedHealth says how the pods are while the operator does nothing about it: it is neither on its way nor stalled.
func suspendedHealth(s *observe.Snapshot) []metav1.Condition {
	health := podConditions(s)[0]
	if health.Status != metav1.ConditionTrue {
		health.Reason, health.Message = reasonSuspended, health.Message+". The operator does nothing about it while spec.suspend is true"
	}
	return []metav1.Condition{health}
}

// serving is how many pods traffic reaches. The StatefulSet counts a pod that is being deleted as ready until its containers
// have ended, and one above the scale as well.
func serving(s *observe.Snapshot) int32 {
	set := s.Children.StatefulSet
	if set == nil {
		return 0
	}
	return min(max(set.Status.ReadyReplicas-s.Pods.ReadyStill, 0), observe.ReplicasOf(set))
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
	wanted := observe.ReplicasOf(set)
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
		return max(0, observe.ReplicasOf(set)-ptr.Deref(strategy.RollingUpdate.Partition, 0))
	default:
		return observe.ReplicasOf(set)
	}
}

// strayMessage says what a StatefulSet that was deleted waits for before it comes back.
func strayMessage(s *observe.Snapshot) string {
	return fmt.Sprintf("the StatefulSet was deleted, and comes back when the garbage collector of Kubernetes has begun to delete its pods: "+
		"it has not with %d, such as %s. If it does not, run: kubectl -n %s delete pod -l %s",
		len(s.Stray), s.Stray[0], s.Server.Namespace,
		metav1.FormatLabelSelector(metav1.SetAsLabelSelector(s.Fixed.PodLabels)))
}

// explain adds to why an MCPServer is not ready what was found out about it. The first finding gives the reason.
func explain(reason, message string, set *appsv1.StatefulSet, pods observe.Pods) (explainedReason, explainedMessage string) {
	if pods.Terminating == 1 {
		message += fmt.Sprintf("; 1 pod is terminating, for which it has a grace period of %d s", observe.GracePeriodOf(set))
	} else if pods.Terminating > 1 {
		message += fmt.Sprintf("; %d pods are terminating, for which each has a grace period of %d s", pods.Terminating, observe.GracePeriodOf(set))
	}
	if len(pods.Unwell) > 0 {
		reason = string(pods.Unwell[0].Reason)
	}
	if pods.Blocked != nil {
		reason = string(pods.Blocked.Reason)
		message += "; " + pods.Blocked.Message
	}
	return reason, message + findingsMessage(pods.Unwell)
}

// mostFindings is how many pods a condition names. The rest is in kubectl get pods.
const mostFindings = 3

// findingsMessage continues a message with what was found in pods.
func findingsMessage(findings []observe.PodFinding) string {
	var message string
	for _, finding := range findings[:min(len(findings), mostFindings)] {
		message += fmt.Sprintf("; pod %s: %s", finding.Pod, finding.Message)
	}
	if more := len(findings) - mostFindings; more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	return message
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
	return act.HasCause(err, func(cause metav1.StatusCause) bool {
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
