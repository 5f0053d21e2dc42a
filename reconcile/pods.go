package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/diagnosis"
)

// podIndex finds the pods of a StatefulSet, by its name, that are not simply serving: see worthALook.
const podIndex = "worthALook"

// podsSeen is what a pass has to tell of the pods of a StatefulSet.
type podsSeen struct {
	// unwell are those that do not work, in order of name, each with what is wrong.
	unwell []podFinding
	// recovered are those that work and had a problem a while ago.
	recovered []podFinding
	// blocked says why pods are not created, or not deleted; nil when they are.
	blocked *diagnosis.Finding
	// terminating is how many are being deleted, and readyStill how many of these still count as ready.
	terminating, readyStill int32
	// asked is true when events were needed to tell what is wrong.
	asked bool
	// lookAgain is when something shows that only time tells; zero when nothing does.
	lookAgain time.Duration
}

// podFinding is what is wrong with a pod.
type podFinding struct {
	pod string
	diagnosis.Finding
}

// indexPods makes the pods of a StatefulSet that are worth a look a lookup in the cache: most pods serve, and a pass over
// their MCPServer has no need to go through all pods of its namespace.
func indexPods(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, podIndex, func(object client.Object) []string {
		pod, isPod := object.(*corev1.Pod)
		if owner := metav1.GetControllerOfNoCopy(object); isPod && owner != nil && isOf(owner, statefulSetKind) && worthALook(pod) {
			return []string{owner.Name}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing the pods: %w", err)
	}
	return nil
}

// worthALook reports whether there may be something to tell of a pod. It does not depend on the time.
func worthALook(pod *corev1.Pod) bool {
	if !diagnosis.IsServing(pod) {
		return true
	}
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.LastTerminationState.Terminated != nil
	})
}

// observePods looks at the pods of a StatefulSet.
func (r *Reconciler) observePods(ctx context.Context, p *pass, set *appsv1.StatefulSet) (podsSeen, error) {
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(set.Namespace), client.MatchingFields{podIndex: set.Name}); err != nil {
		return podsSeen{}, fmt.Errorf("listing the pods of StatefulSet %q: %w", set.Name, err)
	}
	server := diagnosis.Server{Container: applyconfigs.ContainerName, Port: applyconfigs.ContainerPort(p.server)}
	var seen podsSeen
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !metav1.IsControlledBy(pod, set) {
			continue
		}
		if !pod.DeletionTimestamp.IsZero() {
			seen.terminating++
			if slices.ContainsFunc(pod.Status.Conditions, isReadyCondition) {
				seen.readyStill++
			}
		}
		seen.lookIn(diagnosis.LookAgain(pod, p.now.Time))
		finding := diagnosis.Pod(pod, server, p.now.Time)
		if finding == nil && diagnosis.WaitsForVolumes(pod, p.now.Time) {
			finding = r.askEvents(ctx, p, pod, diagnosis.EventFailedMount, diagnosis.Mount, &seen)
		}
		if finding != nil {
			seen.unwell = append(seen.unwell, podFinding{pod.Name, *finding})
		}
		if killed, left := diagnosis.WasKilled(pod, p.now.Time); killed != nil {
			seen.recovered = append(seen.recovered, podFinding{pod.Name, *killed})
			seen.lookIn(left)
		}
	}
	for _, findings := range [][]podFinding{seen.unwell, seen.recovered} {
		slices.SortFunc(findings, func(a, b podFinding) int { return strings.Compare(a.pod, b.pod) })
	}
	r.observeBlockade(ctx, p, set, &seen)
	if !seen.asked {
		r.asked.forget(client.ObjectKeyFromObject(p.server))
	}
	return seen, nil
}

func isReadyCondition(condition corev1.PodCondition) bool {
	return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
}

// lookIn asks for another look after some time, unless there is one sooner; zero asks for none.
func (s *podsSeen) lookIn(after time.Duration) {
	if after > 0 && (s.lookAgain == 0 || after < s.lookAgain) {
		s.lookAgain = after
	}
}

// podChanged lets only those events of pods through after which there is something else to tell. A pod that is new to a
// watch that had been cut may have its problem already.
var podChanged = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool {
		pod, isPod := e.Object.(*corev1.Pod)
		return isPod && tellOf(pod) != (podTold{})
	},
	DeleteFunc: func(e event.DeleteEvent) bool {
		return !e.Object.GetDeletionTimestamp().IsZero() // it was told to be terminating
	},
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*corev1.Pod)
		after, isAfter := e.ObjectNew.(*corev1.Pod)
		return isBefore && isAfter && tellOf(before) != tellOf(after)
	},
}

// podTold is what there is to tell of a pod at one instant. What only time tells has a look of its own: see lookAgain.
type podTold struct {
	finding                      diagnosis.Finding
	terminating, ready, recovers bool
}

func tellOf(pod *corev1.Pod) podTold {
	var told podTold
	// Without the time and the server: these change no event into something to tell.
	if finding := diagnosis.Pod(pod, diagnosis.Server{}, time.Time{}); finding != nil {
		told.finding = *finding
	}
	if told.terminating = !pod.DeletionTimestamp.IsZero(); told.terminating {
		told.ready = slices.ContainsFunc(pod.Status.Conditions, isReadyCondition)
	}
	told.recovers = diagnosis.IsServing(pod) && worthALook(pod)
	return told
}

// serverOfPod maps a pod to the MCPServer that has the name of its StatefulSet.
func serverOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != statefulSetKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}}}
}
