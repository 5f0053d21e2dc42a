package status

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/act"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// healthConditions returns Ready and, if Ready is False, either Reconciling or Stalled (the convention of kstatus).
func healthConditions(s *observe.Snapshot, p plan.Plan, results plan.Results) []metav1.Condition {
	if s.Server.Spec.Suspend {
		return suspendedHealth(s)
	}
	if s.Server.IsOfToolHive() {
		return stalled(reasonToolHiveFinalizer, toolHiveMessage(s.Server))
	}
	if condition := foreignConditions(s); condition != nil {
		return condition
	}
	if condition := failureConditions(s, results); condition != nil {
		return condition
	}
	if p.LacksCommand {
		return commandConditions(s)
	}
	if results.StatefulSet() != nil {
		return reconciling(reasonProgressing, "the StatefulSet has a change that its controller has not seen yet")
	}
	if len(s.Stray) > 0 {
		return reconciling(reasonProgressing, strayMessage(s))
	}
	return podConditions(s)
}

// failureConditions returns the conditions about steps of the plan that failed; nil if none failed.
func failureConditions(s *observe.Snapshot, results plan.Results) []metav1.Condition {
	err := Failure(results)
	var invalid *plan.InvalidSpecError
	if errors.As(err, &invalid) {
		return stalled(reasonInvalidSpec, quoted(invalid)+
			". The operator does not apply the affected object. Correct the MCPServer; the operator then continues automatically")
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
		return stalled(reasonRecreate, fmt.Sprintf("%s. Kubernetes does not allow this field of a Service to change. To recreate "+
			"the Service with a new address, run: kubectl -n %s delete service %s. To keep the Service, undo the change",
			quoted(err), s.Server.Namespace, applyconfigs.ClientServiceName(s.Server.Name))+unchangedMessage(results))
	case !isKindUnknownYet(err) && isRejection(err):
		return stalled(reasonRejected, quoted(err)+unchangedMessage(results))
	default:
		return reconciling(reasonPassFailed, err.Error())
	}
}

// mostQuoted is the maximum length of an error in a message, in bytes. The rest of the message, which says what to do, follows the error and
// must not be cut.
const mostQuoted = mostMessage / 2

// quoted returns the text of an error for a message.
func quoted(err error) string { return Bounded(err.Error(), mostQuoted) }

// unchangedMessage names the objects to which no other change is applied, because the API server accepts or rejects an apply as a whole.
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
	return ". Until this is corrected, the operator cannot apply any other change to " + strings.Join(names, " and ")
}

// Failure returns the errors of the steps that failed; nil if none did.
func Failure(results plan.Results) error {
	var errs []error
	for i := range results {
		errs = append(errs, results[i].Err)
	}
	return errors.Join(errs...)
}

// isRejection reports whether err has a response of the API server or of an admission webhook that does not change without a user action:
// every 4xx response except those that a retry can resolve.
func isRejection(err error) bool {
	for _, one := range flattened(err) {
		var status apierrors.APIStatus
		if !errors.As(one, &status) {
			continue
		}
		code := status.Status().Code
		passing := apierrors.IsTooManyRequests(one) || apierrors.IsTimeout(one) || apierrors.IsUnauthorized(one) || apierrors.IsNotFound(one)
		if act.IsDenied(one) || (code >= 400 && code < 500 && !passing) {
			return true
		}
	}
	return false
}

// flattened returns the joined errors, including nested ones.
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

// podConditions returns the conditions about the state of the pods.
func podConditions(s *observe.Snapshot) []metav1.Condition {
	set, pods := s.Children.StatefulSet, s.Pods
	reason, message := unreadiness(set, serving(s), pods.Terminating)
	if reason == "" && len(pods.Surplus) > 0 {
		reason, message = reasonProgressing, fmt.Sprintf("pod %s is missing, and pod %s is surplus", pods.Missing[0], pods.Surplus[0])
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

// orderedAdvice returns the continuation of a message about a broken pod during a rollout with podManagementPolicy OrderedReady. A
// StatefulSet that was taken over may have this policy. A corrected template does not reach the broken pod (kubernetes#67250).
func orderedAdvice(set *appsv1.StatefulSet, pods observe.Pods) string {
	if set == nil || len(pods.Unwell) == 0 || set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement ||
		set.Status.CurrentRevision == set.Status.UpdateRevision {
		return ""
	}
	return fmt.Sprintf(". With podManagementPolicy OrderedReady, Kubernetes waits for this pod, even after you correct the MCPServer. "+
		"After the correction, run: kubectl -n %s delete pod %s", set.Namespace, lastInOrder(pods.Unwell).Pod)
}

// lastInOrder returns the finding about the pod with the highest ordinal. A rollout begins with this pod. Of two names of pods of one
// StatefulSet, the longer name has the higher ordinal.
func lastInOrder(findings []observe.PodFinding) observe.PodFinding {
	return slices.MaxFunc(findings, func(a, b observe.PodFinding) int {
		return cmp.Or(cmp.Compare(len(a.Pod), len(b.Pod)), cmp.Compare(a.Pod, b.Pod))
	})
}

// suspended returns the condition Suspended if spec.suspend is true.
func suspended(server *v1beta1.MCPServer) []metav1.Condition {
	if !server.Spec.Suspend {
		return nil
	}
	return []metav1.Condition{{
		Type: v1beta1.ConditionSuspended, Status: metav1.ConditionTrue, Reason: reasonSuspended,
		Message: "spec.suspend is true. The operator writes only the status of this MCPServer. To resume, set spec.suspend to false",
	}}
}

// suspendedHealth returns Ready while spec.suspend is true. The MCPServer is neither Reconciling nor Stalled.
func suspendedHealth(s *observe.Snapshot) []metav1.Condition {
	health := podConditions(s)[0]
	if health.Status != metav1.ConditionTrue {
		health.Reason, health.Message = reasonSuspended, health.Message+". The operator does not act on this while spec.suspend is true"
	}
	return []metav1.Condition{health}
}

// serving returns how many pods receive traffic. The ready replicas of the StatefulSet also include pods that are being deleted, until their
// containers have ended, and pods above the scale.
func serving(s *observe.Snapshot) int32 {
	set := s.Children.StatefulSet
	if set == nil {
		return 0
	}
	return min(max(set.Status.ReadyReplicas-s.Pods.ReadyStill, 0), observe.ReplicasOf(set))
}

// unreadiness returns why not every desired pod of a StatefulSet is ready and up to date. Serving is how many pods receive traffic,
// terminating is how many pods are being deleted. Package kstatus of cli-utils has similar rules. It is not used because it counts
// pods that are being deleted as ready, as the status of the StatefulSet does, and because it takes unstructured objects only.
func unreadiness(set *appsv1.StatefulSet, serving, terminating int32) (reason, message string) {
	switch {
	case set == nil:
		return reasonProgressing, "the StatefulSet does not exist yet"
	case !set.DeletionTimestamp.IsZero():
		return reasonProgressing, "the StatefulSet is being deleted. The operator creates it again after the deletion"
	case set.Status.ObservedGeneration < set.Generation:
		return reasonProgressing, "the StatefulSet has a change that its controller has not seen yet"
	}
	wanted := observe.ReplicasOf(set)
	toUpdate := podsToUpdate(set)
	switch {
	case set.Status.Replicas != wanted:
		return reasonProgressing, fmt.Sprintf("%d pods exist, %d are desired", set.Status.Replicas, wanted)
	// A pod that is being deleted does not count as up to date, regardless of its revision.
	case set.Status.UpdatedReplicas < toUpdate && (set.Status.UpdatedReplicas+terminating < toUpdate || serving >= wanted):
		return reasonProgressing, fmt.Sprintf("%d of %d pods are up to date", set.Status.UpdatedReplicas, toUpdate)
	case serving < wanted:
		return reasonPodsNotReady, fmt.Sprintf("%d of %d pods are ready", serving, wanted)
	case set.Spec.MinReadySeconds > 0 && set.Status.AvailableReplicas < wanted:
		return reasonPodsNotReady, fmt.Sprintf("%d of %d pods have been ready for minReadySeconds", set.Status.AvailableReplicas, wanted)
	}
	return "", ""
}

// podsToUpdate returns how many pods the StatefulSet controller updates automatically.
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

// strayMessage returns why the operator does not yet recreate a deleted StatefulSet.
func strayMessage(s *observe.Snapshot) string {
	return fmt.Sprintf("the StatefulSet was deleted. The operator creates it again when the Kubernetes garbage collector has started to delete the "+
		"old pods. It has not started to delete %d of them, such as %s. If it does not, run: kubectl -n %s delete pod -l %s",
		len(s.Stray), s.Stray[0], s.Server.Namespace,
		metav1.FormatLabelSelector(metav1.SetAsLabelSelector(s.Fixed.PodLabels)))
}

// explain adds the findings to the reason and the message. The first finding determines the reason.
func explain(reason, message string, set *appsv1.StatefulSet, pods observe.Pods) (explainedReason, explainedMessage string) {
	if pods.Terminating == 1 {
		message += fmt.Sprintf("; 1 pod is terminating, with a grace period of %d s", observe.GracePeriodOf(set))
	} else if pods.Terminating > 1 {
		message += fmt.Sprintf("; %d pods are terminating, each with a grace period of %d s", pods.Terminating, observe.GracePeriodOf(set))
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

// mostFindings is the maximum number of pods that a condition names. The others are in kubectl get pods.
const mostFindings = 3

// findingsMessage returns the continuation of a message with the findings about pods.
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
	message := fmt.Sprintf("spec.volumeClaimTemplates (%s) differ from those of StatefulSet %q. Kubernetes does not allow them to change. "+
		"To recreate the StatefulSet and keep its pods, volumes and scale, "+
		"run: kubectl -n %s delete statefulset %s --cascade=orphan. Existing claims keep their size. If a claim is "+
		"new, then delete the pods one after the other: each pod gets the claim when it is created again, and until then the "+
		"StatefulSet cannot be scaled or rolled out. To keep the StatefulSet, undo the change",
		strings.Join(changed, ", "), set.Name, set.Namespace, set.Name)
	if passErr != nil {
		message += "; until then: " + quoted(passErr)
	}
	return message
}

// isFixedServiceField reports whether the API server rejected a change of an immutable field of a Service.
func isFixedServiceField(err error) bool {
	return act.HasCause(err, func(cause metav1.StatusCause) bool {
		return strings.HasPrefix(cause.Field, "spec.ipFamilies") || cause.Field == "spec.loadBalancerClass"
	})
}

// isKindUnknownYet reports whether the API server rejected an owner reference because it does not know the CRD of MCPServer yet. Its
// admission plugin OwnerReferencesPermissionEnforcement updates every 10 s, and returns Forbidden until then.
func isKindUnknownYet(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot find RESTMapping")
}

func ready(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}

func reconciling(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		{Type: v1beta1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}

func stalled(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		{Type: v1beta1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reason, Message: message},
	}
}
