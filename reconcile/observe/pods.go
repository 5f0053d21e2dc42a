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
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/diagnosis"
)

// podIndex is the index of pods by the name of their StatefulSet.
const podIndex = "statefulSet"

// Pods are the findings about the pods of a StatefulSet.
type Pods struct {
	// Unwell are the findings about pods that do not work, sorted by name.
	Unwell []PodFinding
	// Recovered are the findings about pods that work and recently had a problem.
	Recovered []PodFinding
	// Blocked is why pods are not created or not deleted; nil if they are.
	Blocked *diagnosis.Finding
	// Missing are the missing pods and Surplus the surplus pods of the StatefulSet, if there are both. Otherwise both are empty, because
	// the number of pods is enough.
	Missing, Surplus []string
	// Terminating is the number of pods that are being deleted. ReadyStill is the number of these that are still ready.
	Terminating, ReadyStill int32
	// LookAgain is the time until the next check, for problems that show only by the passing of time; zero if none is needed.
	LookAgain time.Duration

	asked bool // whether events were needed to find the problem
}

// PodFinding is a finding about a pod.
type PodFinding struct {
	Pod string
	diagnosis.Finding
}

// IndexPods indexes the pods in the cache by StatefulSet, so that a pass does not have to scan all pods of a namespace.
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

// worthALook reports whether there can be a finding about a pod. The result does not depend on the time.
func worthALook(pod *corev1.Pod) bool {
	if !diagnosis.IsServing(pod) {
		return true
	}
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.LastTerminationState.Terminated != nil
	})
}

// readPods reads the pods of the StatefulSet and returns the findings.
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

// podsNamed returns the pods in the cache whose controller is a StatefulSet with the given name. The pods must not be changed.
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

// serverIn describes the server in the pods of a StatefulSet.
func serverIn(mcp *v1beta1.MCPServer, set *appsv1.StatefulSet) diagnosis.Server {
	server := diagnosis.Server{
		Container: applyconfigs.ContainerName, Port: applyconfigs.ContainerPort(mcp),
		Grace:   time.Duration(GracePeriodOf(set)) * time.Second,
		IsStdio: applyconfigs.Transport(mcp) == v1beta1.TransportStdio && !applyconfigs.IsRouted(set),
	}
	for _, container := range set.Spec.Template.Spec.Containers {
		if probe := container.StartupProbe; probe != nil && container.Name == server.Container {
			server.Startup = time.Duration(probe.InitialDelaySeconds+probe.PeriodSeconds*probe.FailureThreshold) * time.Second
		}
	}
	return server
}

// GracePeriodOf returns the termination grace period of the pods of a StatefulSet, in seconds.
func GracePeriodOf(set *appsv1.StatefulSet) int64 {
	return ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
}

// readPod adds the findings about a pod.
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

// lookIn requests another check after the given time, unless an earlier check is requested. Zero requests none.
func (s *Pods) lookIn(after time.Duration) {
	if after > 0 && (s.LookAgain == 0 || after < s.LookAgain) {
		s.LookAgain = after
	}
}

// PodChanged accepts only the events of pods that change the findings. After an interruption of the watch, a new pod may already have a
// problem.
var PodChanged = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool {
		pod, isPod := e.Object.(*corev1.Pod)
		return isPod && tellOf(pod) != (podTold{})
	},
	DeleteFunc: func(e event.DeleteEvent) bool {
		return !e.Object.GetDeletionTimestamp().IsZero() // the status reports it as terminating
	},
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*corev1.Pod)
		after, isAfter := e.ObjectNew.(*corev1.Pod)
		return isBefore && isAfter && tellOf(before) != tellOf(after)
	},
}

// podTold are the findings about a pod that do not depend on the time. For the others see Pods.LookAgain.
type podTold struct {
	finding                      diagnosis.Finding
	terminating, ready, recovers bool
}

func tellOf(pod *corev1.Pod) podTold {
	var told podTold
	// The time and the server are not needed here, because a watch event does not change them.
	if finding := diagnosis.Pod(pod, diagnosis.Server{}, time.Time{}); finding != nil {
		told.finding = *finding
	}
	if told.terminating = !pod.DeletionTimestamp.IsZero(); told.terminating {
		told.ready = slices.ContainsFunc(pod.Status.Conditions, isReadyCondition)
	}
	told.recovers = diagnosis.IsServing(pod) && worthALook(pod)
	return told
}

// ServerOfPod maps a pod to the MCPServer with the name of its StatefulSet.
func ServerOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != statefulSetKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}}}
}
