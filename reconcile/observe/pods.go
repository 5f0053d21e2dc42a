package observe

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
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/diagnosis"
)

// podIndex finds the pods of a StatefulSet by its name.
const podIndex = "statefulSet"

// Pods is what there is to tell of the pods of a StatefulSet.
type Pods struct {
	// Unwell are those that do not work, in order of name, each with what is wrong.
	Unwell []PodFinding
	// Recovered are those that work and had a problem a while ago.
	Recovered []PodFinding
	// Blocked says why pods are not created, or not deleted; nil if they are.
	Blocked *diagnosis.Finding
	// Missing are the pods that the StatefulSet asks for and does not have, while it has others, Surplus, that it does not ask
	// for. Both are empty if there are only too few, or only too many: their number says that.
	Missing, Surplus []string
	// Terminating is how many are being deleted, and ReadyStill how many of these still count as ready.
	Terminating, ReadyStill int32
	// LookAgain is when something shows that only time tells; zero if nothing does.
	LookAgain time.Duration

	asked bool // whether events were needed to tell what is wrong
}

// PodFinding is what is wrong with a pod.
type PodFinding struct {
	Pod string
	diagnosis.Finding
}

// IndexPods makes the pods of a StatefulSet a lookup in the cache: a pass has no need to go through all pods of a namespace.
func IndexPods(ctx context.Context, mgr ctrl.Manager) error {
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

// readPods looks at the pods of the StatefulSet.
func (r *Reader) readPods(ctx context.Context, s *Snapshot) (Pods, error) {
	set := s.Children.StatefulSet
	named, err := r.podsNamed(ctx, set.Namespace, set.Name)
	if err != nil {
		return Pods{}, err
	}
	pods := slices.DeleteFunc(named, func(pod *corev1.Pod) bool { return !metav1.IsControlledBy(pod, set) })
	var seen Pods
	server := serverIn(s.Server, set)
	for _, pod := range pods {
		if worthALook(pod) {
			r.readPod(ctx, s, pod, server, &seen)
		}
	}
	for _, findings := range [][]PodFinding{seen.Unwell, seen.Recovered} {
		slices.SortFunc(findings, func(a, b PodFinding) int { return strings.Compare(a.Pod, b.Pod) })
	}
	r.readBlockade(ctx, s, set, pods, &seen)
	if !seen.asked {
		r.asked.forget(client.ObjectKeyFromObject(s.Server))
	}
	return seen, nil
}

// podsNamed returns the pods whose controller is a StatefulSet of a name, as the cache holds them. They must not be changed.
func (r *Reader) podsNamed(ctx context.Context, namespace, set string) ([]*corev1.Pod, error) {
	var list corev1.PodList
	err := r.Client.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{podIndex: set}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the pods of StatefulSet %q: %w", set, err)
	}
	pods := make([]*corev1.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return pods, nil
}

// serverIn is what the pods of a StatefulSet are asked to run.
func serverIn(mcp *v1alpha1.MCPServer, set *appsv1.StatefulSet) diagnosis.Server {
	server := diagnosis.Server{
		Container: applyconfigs.ContainerName, Port: applyconfigs.ContainerPort(mcp),
		Grace: time.Duration(GracePeriodOf(set)) * time.Second,
	}
	for _, container := range set.Spec.Template.Spec.Containers {
		if probe := container.StartupProbe; probe != nil && container.Name == server.Container {
			server.Startup = time.Duration(probe.InitialDelaySeconds+probe.PeriodSeconds*probe.FailureThreshold) * time.Second
		}
	}
	return server
}

// GracePeriodOf returns for how many seconds a pod of a StatefulSet that is told to stop may go on.
func GracePeriodOf(set *appsv1.StatefulSet) int64 {
	return ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
}

// readPod looks at a pod that does not simply serve.
func (r *Reader) readPod(ctx context.Context, s *Snapshot, pod *corev1.Pod, server diagnosis.Server, seen *Pods) {
	now := s.Now.Time
	if !pod.DeletionTimestamp.IsZero() {
		seen.Terminating++
		if slices.ContainsFunc(pod.Status.Conditions, isReadyCondition) {
			seen.ReadyStill++
		}
	}
	seen.lookIn(diagnosis.LookAgain(pod, now))
	finding := diagnosis.Pod(pod, server, now)
	if finding == nil && diagnosis.WaitsToStart(pod, now) {
		finding = r.askEvents(ctx, s, pod, fields.Set{"type": corev1.EventTypeWarning}, func(events []eventsv1.Event) *diagnosis.Finding {
			return diagnosis.Start(events, pod.Spec.NodeName)
		}, seen)
	}
	if finding != nil {
		seen.Unwell = append(seen.Unwell, PodFinding{pod.Name, *finding})
	}
	if killed, left := diagnosis.WasKilled(pod, now); killed != nil {
		seen.Recovered = append(seen.Recovered, PodFinding{pod.Name, *killed})
		seen.lookIn(left)
	}
}

func isReadyCondition(condition corev1.PodCondition) bool {
	return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
}

// lookIn asks for another look after some time, unless there is one sooner; zero asks for none.
func (s *Pods) lookIn(after time.Duration) {
	if after > 0 && (s.LookAgain == 0 || after < s.LookAgain) {
		s.LookAgain = after
	}
}

// PodChanged lets only those events of pods through after which there is something else to tell. A pod that is new to a
// watch that had been cut may have its problem already.
var PodChanged = predicate.Funcs{
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

// ServerOfPod maps a pod to the MCPServer that has the name of its StatefulSet.
func ServerOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != statefulSetKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}}}
}
