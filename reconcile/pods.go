package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/diagnosis"
)

// podIndex finds the pods of a StatefulSet by its name.
const podIndex = "statefulSet"

// podsSeen is what a pass has to tell of the pods of a StatefulSet.
type podsSeen struct {
	// unwell are those that do not work, in order of name, each with what is wrong.
	unwell []podFinding
	// recovered are those that work and had a problem a while ago.
	recovered []podFinding
	// blocked says why pods are not created, or not deleted; nil when they are.
	blocked *diagnosis.Finding
	// missing are the pods that the StatefulSet asks for and does not have, while it has others, surplus, that it does not ask
	// for. Both are empty when there are only too few, or only too many: their number says that.
	missing, surplus []string
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

// indexPods makes the pods of a StatefulSet a lookup in the cache: a pass has no need to go through all pods of a namespace.
func indexPods(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, podIndex, func(object client.Object) []string {
		if owner := metav1.GetControllerOfNoCopy(object); owner != nil && isOf(owner, statefulSetKind) {
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
	pods, err := r.podsOf(ctx, set)
	if err != nil {
		return podsSeen{}, err
	}
	var seen podsSeen
	server := serverIn(p, set)
	for _, pod := range pods {
		if worthALook(pod) {
			r.observePod(ctx, p, pod, server, &seen)
		}
	}
	for _, findings := range [][]podFinding{seen.unwell, seen.recovered} {
		slices.SortFunc(findings, func(a, b podFinding) int { return strings.Compare(a.pod, b.pod) })
	}
	r.observeBlockade(ctx, p, set, pods, &seen)
	if !seen.asked {
		r.asked.forget(client.ObjectKeyFromObject(p.server))
	}
	return seen, nil
}

// podsOf returns the pods that a StatefulSet controls, as the cache holds them. They must not be changed.
func (r *Reconciler) podsOf(ctx context.Context, set *appsv1.StatefulSet) ([]*corev1.Pod, error) {
	var list corev1.PodList
	err := r.Client.List(ctx, &list, client.InNamespace(set.Namespace), client.MatchingFields{podIndex: set.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the pods of StatefulSet %q: %w", set.Name, err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], set) {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
}

// serverIn is what the pods of a StatefulSet are asked to run.
func serverIn(p *pass, set *appsv1.StatefulSet) diagnosis.Server {
	server := diagnosis.Server{
		Container: applyconfigs.ContainerName, Port: applyconfigs.ContainerPort(p.server),
		Grace: time.Duration(gracePeriodOf(set)) * time.Second,
	}
	for _, container := range set.Spec.Template.Spec.Containers {
		if probe := container.StartupProbe; probe != nil && container.Name == server.Container {
			server.Startup = time.Duration(probe.InitialDelaySeconds+probe.PeriodSeconds*probe.FailureThreshold) * time.Second
		}
	}
	return server
}

// gracePeriodOf returns for how many seconds a pod of a StatefulSet that is told to stop may go on.
func gracePeriodOf(set *appsv1.StatefulSet) int64 {
	return ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
}

// observePod looks at a pod that does not simply serve.
func (r *Reconciler) observePod(ctx context.Context, p *pass, pod *corev1.Pod, server diagnosis.Server, seen *podsSeen) {
	now := p.now.Time
	if !pod.DeletionTimestamp.IsZero() {
		seen.terminating++
		if slices.ContainsFunc(pod.Status.Conditions, isReadyCondition) {
			seen.readyStill++
		}
	}
	seen.lookIn(diagnosis.LookAgain(pod, now))
	finding := diagnosis.Pod(pod, server, now)
	if finding == nil && diagnosis.WaitsToStart(pod, now) {
		finding = r.askEvents(ctx, p, pod, fields.Set{"type": corev1.EventTypeWarning}, func(events []eventsv1.Event) *diagnosis.Finding {
			return diagnosis.Start(events, pod.Spec.NodeName)
		}, seen)
	}
	if finding != nil {
		seen.unwell = append(seen.unwell, podFinding{pod.Name, *finding})
	}
	if killed, left := diagnosis.WasKilled(pod, now); killed != nil {
		seen.recovered = append(seen.recovered, podFinding{pod.Name, *killed})
		seen.lookIn(left)
	}
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
