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

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/diagnosis"
)

// Why the StatefulSet controller does not create a pod, and why the kubelet does not mount a volume, is in no object: only an
// event says it. The operator neither watches events, of which a cluster has more than of anything else, nor reads all of a
// namespace: it asks for those of one object, of one reason or of type Warning, when nothing else explains a state that lasts.
// By RBAC it may list events and no more; no rule can say "of these objects". The API server has no index of events by what
// they are about, and goes through those of that namespace for each request; that is why the operator asks less and less often,
// from once in 3 s to once in 5 min for each object, and not at all while no pod is missing and each pod says what it waits for.

const (
	// blockedAfter is how long pods may be too few or too many until that is no everyday delay.
	blockedAfter = 3 * time.Second
	// askMost is the longest time between two looks at the same events.
	askMost = 5 * time.Minute
	// mostEvents bounds an answer. Events of one object and one reason are counted, not repeated, unless their text differs.
	mostEvents = 50
)

// readBlockade says why the pods of a StatefulSet stay others than those that it asks for.
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
	// The number may be right when the pods are not.
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

// isInOrder reports whether a StatefulSet creates and deletes a pod only when all others are ready.
func isInOrder(set *appsv1.StatefulSet) bool {
	return set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// UnreadyFor is since when the status says that the MCPServer is not ready.
func UnreadyFor(server *v1alpha1.MCPServer, now time.Time) time.Duration {
	ready := apimeta.FindStatusCondition(server.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		return 0
	}
	return now.Sub(ready.LastTransitionTime.Time)
}

// askEvents returns what the events of an object say, from the API server or from the last time that it was asked. It returns
// nil when they say nothing, or cannot be read: what is told less well must not keep the pass from its work.
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
			logf.FromContext(ctx).Error(err, "Cannot list the events that tell what is wrong", "object", object.GetName())
		}
		finding, left = read(events.Items), every
		r.asked.remember(key, object.GetUID(), finding, s.Now.Time)
	}
	seen.lookIn(left)
	return finding
}

// askedEvents remembers what the events of an object said when they were last read. It only saves requests.
type askedEvents struct {
	mutex sync.Mutex
	of    map[types.NamespacedName]map[types.UID]answer
}

type answer struct {
	at      time.Time
	finding *diagnosis.Finding
}

// last returns the last answer about an object, and for how long it counts still; zero when it does not.
func (a *askedEvents) last(
	server types.NamespacedName, object types.UID, counts time.Duration, now time.Time,
) (*diagnosis.Finding, time.Duration) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	last, found := a.of[server][object]
	if !found {
		return nil, 0
	}
	return last.finding, min(max(last.at.Add(counts).Sub(now), 0), counts) // a clock may be set back
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

// forget forgets an MCPServer that is gone, or whose events explain nothing any more.
func (a *askedEvents) forget(server types.NamespacedName) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.of, server)
}
