package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
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
// namespace: it asks for those of one object and one reason, when nothing else explains a state that lasts. The API server
// goes through the events of that namespace for it, so that it is asked less and less often.

const (
	// blockedAfter is how long pods may be too few or too many until that is no everyday delay.
	blockedAfter = 3 * time.Second
	// askMost is the longest time between two looks at the same events.
	askMost = 5 * time.Minute
	// mostEvents bounds an answer. Events of one object and one reason are counted, not repeated, unless their text differs.
	mostEvents = 50
)

// observeBlockade says why the pods of a StatefulSet stay fewer or more than it asks for.
func (r *Reconciler) observeBlockade(ctx context.Context, p *pass, set *appsv1.StatefulSet, seen *podsSeen) {
	if set.Status.ObservedGeneration < set.Generation || set.Status.Replicas == replicasOf(set) {
		return
	}
	if wait := blockedAfter - unreadyFor(p.server, p.now.Time); wait > 0 {
		seen.lookIn(wait)
		return
	}
	missing, surplus, err := r.ordinals(ctx, set)
	if err != nil {
		// What is told less well must not keep the pass from its work.
		logf.FromContext(ctx).Error(err, "Cannot tell why the number of pods is not as asked for")
		seen.lookIn(blockedAfter)
		return
	}
	if len(missing) == 0 {
		return
	}
	seen.blocked = r.askEvents(ctx, p, set, diagnosis.EventFailedCreate, diagnosis.Creation, seen)
	if len(surplus) > 0 {
		surplus := diagnosis.Surplus(set.Namespace, replicasOf(set), missing, surplus, seen.blocked)
		seen.blocked = &surplus
	}
}

// unreadyFor is since when the status says that the MCPServer is not ready.
func unreadyFor(server *v1alpha1.MCPServer, now time.Time) time.Duration {
	ready := apimeta.FindStatusCondition(server.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		return 0
	}
	return now.Sub(ready.LastTransitionTime.Time)
}

// ordinals returns the names of the pods that a StatefulSet asks for and does not have, and of those that it has and does not
// ask for, without those that are being deleted.
func (r *Reconciler) ordinals(ctx context.Context, set *appsv1.StatefulSet) (missing, surplus []string, err error) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the selector of StatefulSet %q: %w", set.Name, err)
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := r.APIReader.List(ctx, pods, client.InNamespace(set.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, nil, fmt.Errorf("listing the pods of StatefulSet %q: %w", set.Name, err)
	}
	var first int32
	if set.Spec.Ordinals != nil {
		first = set.Spec.Ordinals.Start
	}
	wanted := map[string]bool{}
	for ordinal := range replicasOf(set) {
		wanted[set.Name+"-"+strconv.FormatInt(int64(first+ordinal), 10)] = true
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !metav1.IsControlledBy(pod, set) {
			continue
		}
		if !wanted[pod.Name] && pod.DeletionTimestamp.IsZero() {
			surplus = append(surplus, pod.Name)
		}
		delete(wanted, pod.Name)
	}
	for name := range wanted {
		missing = append(missing, name)
	}
	slices.Sort(missing)
	slices.Sort(surplus)
	return missing, surplus, nil
}

// askEvents returns what the events of an object say, from the API server or from the last time that it was asked. It returns
// nil when they say nothing, or cannot be read: what is told less well must not keep the pass from its work.
func (r *Reconciler) askEvents(
	ctx context.Context, p *pass, object client.Object, reason string, read func([]eventsv1.Event) *diagnosis.Finding, seen *podsSeen,
) *diagnosis.Finding {
	seen.asked = true
	key := client.ObjectKeyFromObject(p.server)
	every := min(max(unreadyFor(p.server, p.now.Time)/2, blockedAfter), askMost)
	finding, left := r.asked.last(key, object.GetUID(), every, p.now.Time)
	if left == 0 {
		var events eventsv1.EventList
		err := r.APIReader.List(ctx, &events, client.InNamespace(object.GetNamespace()), client.Limit(mostEvents),
			client.MatchingFieldsSelector{Selector: fields.SelectorFromSet(fields.Set{
				"regarding.uid": string(object.GetUID()), "reason": reason,
			})})
		if err != nil {
			logf.FromContext(ctx).Error(err, "Cannot list the events that tell what is wrong", "object", object.GetName())
		}
		finding, left = read(events.Items), every
		r.asked.remember(key, object.GetUID(), finding, p.now.Time)
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
