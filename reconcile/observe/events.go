package observe

import (
	"context"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/diagnosis"
)

// Only events have the reasons why the StatefulSet controller does not create a pod and why the kubelet does not mount a volume. The
// operator does not watch events, because a cluster has very many, and does not list all events of a namespace. If nothing else
// explains a problem that lasts, the operator lists the events of one object with one reason or with type Warning. RBAC permits it only
// to list events; a rule cannot select events by object. The API server has no index of events by object, and scans all events of the
// namespace for each request. Therefore the operator lists events with an increasing interval, from 3 s to 5 min for each object, and
// not at all while no pod is missing and the status of each pod has a reason.

const (
	// blockedAfter is how long pods may be missing or surplus before this is a problem.
	blockedAfter = 3 * time.Second
	// askMost is the maximum time between two requests for the same events.
	askMost = 5 * time.Minute
	// mostEvents is the maximum number of events in a response. Kubernetes counts events with the same object, reason and text as one event.
	mostEvents = 50
)

// readBlockade finds out why pods of a StatefulSet are missing or surplus for a longer time.
func (r *Reader) readBlockade(ctx context.Context, s *Snapshot, set *appsv1.StatefulSet, pods []*corev1.Pod, seen *Pods) {
	if set.Status.ObservedGeneration < set.Generation || !set.DeletionTimestamp.IsZero() {
		return
	}
	if isInOrder(set) && slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return !diagnosis.IsServing(pod) }) {
		return // the controller waits for that pod
	}
	missing, surplus := diagnosis.OutOfPlace(set, pods)
	if len(missing) > 0 && len(surplus) > 0 {
		seen.Missing, seen.Surplus = missing, surplus
	}
	// The number of pods may be correct even if a pod is missing and another is surplus.
	if len(missing) == 0 || (set.Status.Replicas == ReplicasOf(set) && len(surplus) == 0) {
		return
	}
	if wait := blockedAfter - UnreadyFor(s.Server, s.Now.Time); wait > 0 {
		seen.lookIn(wait)
		return
	}
	seen.Blocked = r.askEvents(ctx, s, set, fields.Set{"reason": diagnosis.FailedCreate}, func(events []eventsv1.Event) *diagnosis.Finding {
		return diagnosis.Creation(set, events, missing, s.Now.Time)
	}, seen)
	if len(surplus) > 0 {
		surplus := diagnosis.Surplus(set.Namespace, ReplicasOf(set), missing, surplus, seen.Blocked)
		seen.Blocked = &surplus
	}
}

// isInOrder reports whether a StatefulSet creates and deletes a pod only if all others are ready.
func isInOrder(set *appsv1.StatefulSet) bool {
	return set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// UnreadyFor returns for how long the MCPServer has not been ready, according to its status.
func UnreadyFor(server *v1beta1.MCPServer, now time.Time) time.Duration {
	ready := apimeta.FindStatusCondition(server.Status.Conditions, v1beta1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		return 0
	}
	return now.Sub(ready.LastTransitionTime.Time)
}

// askEvents returns the finding from the events of an object, from the API server or from the last response. It returns nil if the events
// have no reason, or if they cannot be read: a pass must not fail because a message has less detail.
func (r *Reader) askEvents(
	ctx context.Context, s *Snapshot, object client.Object, which fields.Set, read func([]eventsv1.Event) *diagnosis.Finding, seen *Pods,
) *diagnosis.Finding {
	seen.asked = true
	key := client.ObjectKeyFromObject(s.Server)
	every := min(max(UnreadyFor(s.Server, s.Now.Time)/2, blockedAfter), askMost)
	finding, left := r.asked.last(key, object.GetUID(), every, s.Now.Time)
	if left == 0 {
		var events eventsv1.EventList
		err := r.APIReader.List(ctx, &events, client.InNamespace(object.GetNamespace()), client.Limit(mostEvents), client.MatchingFieldsSelector{
			Selector: fields.AndSelectors(fields.OneTermEqualSelector("regarding.uid", string(object.GetUID())), fields.SelectorFromSet(which)),
		})
		if err != nil {
			logf.FromContext(ctx).Error(err, "Cannot list the events that explain the problem", "object", object.GetName())
		}
		finding, left = read(events.Items), every
		r.asked.remember(key, object.GetUID(), finding, s.Now.Time)
	}
	seen.lookIn(left)
	return finding
}

// askedEvents caches the findings from the events of objects. It only saves requests.
type askedEvents struct {
	mutex sync.Mutex
	of    map[types.NamespacedName]map[types.UID]answer
}

type answer struct {
	at      time.Time
	finding *diagnosis.Finding
}

// last returns the last answer about an object, and for how long it is still valid; zero if it is not.
func (a *askedEvents) last(
	server types.NamespacedName, object types.UID, counts time.Duration, now time.Time,
) (*diagnosis.Finding, time.Duration) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	last, found := a.of[server][object]
	if !found {
		return nil, 0
	}
	return last.finding, min(max(last.at.Add(counts).Sub(now), 0), counts) // the clock may be set back
}

func (a *askedEvents) remember(server types.NamespacedName, object types.UID, finding *diagnosis.Finding, now time.Time) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.of == nil {
		a.of = map[types.NamespacedName]map[types.UID]answer{}
	}
	if a.of[server] == nil {
		a.of[server] = map[types.UID]answer{}
	}
	a.of[server][object] = answer{at: now, finding: finding}
}

// forget removes an MCPServer that was deleted, or whose events are no longer needed.
func (a *askedEvents) forget(server types.NamespacedName) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.of, server)
}
