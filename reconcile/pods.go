package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
)

// mostUnwell is how many pods a condition names. The rest is in kubectl get pods.
const mostUnwell = 3

// unwellPods says what is wrong with the pods of a StatefulSet that do not work, each by name; in order of name.
func (r *Reconciler) unwellPods(ctx context.Context, set *appsv1.StatefulSet) ([]string, error) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("reading the selector of StatefulSet %q: %w", set.Name, err)
	}
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(set.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("listing the pods of StatefulSet %q: %w", set.Name, err)
	}
	var unwell []string
	for i := range pods.Items {
		pod := &pods.Items[i]
		if problem := podProblem(pod); problem != "" && metav1.IsControlledBy(pod, set) {
			unwell = append(unwell, fmt.Sprintf("pod %s: %s", pod.Name, problem))
		}
	}
	slices.Sort(unwell)
	return unwell, nil
}

// strayPods returns the pods of a StatefulSet that was deleted which nobody has begun to delete. One that is created before the
// garbage collector has noticed that the other one is gone hides that from it, if its watch was cut meanwhile: the pods stay,
// belong to what is gone, and keep the new ones from being created, for good.
func (r *Reconciler) strayPods(ctx context.Context, p *pass) ([]string, error) {
	name := applyconfigs.StatefulSetName(p.server.Name)
	key := childKey{kind: reflect.TypeFor[*appsv1.StatefulSet](), name: name}
	if p.server.Status.Scale == nil && !r.settled.wasThere(p.server, key) {
		return nil, nil // there was none before, as far as this MCPServer goes
	}
	if p.refused(statefulSetKind.Kind, name) {
		return nil, nil
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := r.APIReader.List(ctx, pods, client.InNamespace(p.server.Namespace), client.MatchingLabels(p.fixed.PodLabels))
	if err != nil {
		return nil, fmt.Errorf("listing the pods of StatefulSet %q, which was deleted: %w", name, err)
	}
	var stray []string
	for i := range pods.Items {
		owner := metav1.GetControllerOfNoCopy(&pods.Items[i])
		if owner != nil && isOf(owner, statefulSetKind) && owner.Name == name && pods.Items[i].DeletionTimestamp.IsZero() {
			stray = append(stray, pods.Items[i].Name)
		}
	}
	if len(stray) == 0 {
		return nil, nil
	}
	err = r.APIReader.Get(ctx, client.ObjectKey{Namespace: p.server.Namespace, Name: name}, &appsv1.StatefulSet{})
	switch {
	case err == nil:
		return nil, staleCache(name)
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading StatefulSet %q again: %w", name, err)
	}
	slices.Sort(stray)
	return stray, nil
}

// podProblem says why a pod does not work, as REASON: MESSAGE; empty when it works, or is on its way.
func podProblem(pod *corev1.Pod) string {
	if pod.Status.Phase == corev1.PodFailed {
		return problem(cmp.Or(pod.Status.Reason, "Failed"), pod.Status.Message)
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return problem(condition.Reason, condition.Message)
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			// Waiting is what CrashLoopBackOff, ImagePullBackOff and CreateContainerConfigError are; two reasons are
			// on the way to running.
			if w := status.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				return problem(w.Reason, fmt.Sprintf("container %s: %s", status.Name, w.Message))
			}
		}
	}
	return ""
}

func problem(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + strings.TrimSuffix(message, ".")
}

// podProblemChanged lets only those events of pods through after which there is something else to tell. A pod that is new to
// a watch that had been cut may have its problem already.
var podProblemChanged = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool {
		pod, isPod := e.Object.(*corev1.Pod)
		return isPod && podProblem(pod) != ""
	},
	DeleteFunc: func(event.DeleteEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*corev1.Pod)
		after, isAfter := e.ObjectNew.(*corev1.Pod)
		return isBefore && isAfter && podProblem(before) != podProblem(after)
	},
}

// serverOfPod maps a pod to the MCPServer that has the name of its StatefulSet.
func serverOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != statefulSetKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}}}
}
