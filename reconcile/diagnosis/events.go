package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
)

// FailedCreate is the reason of the events on a StatefulSet when its controller cannot create a pod.
const FailedCreate = "FailedCreate"

// The reasons of the events on a pod that does not start.
const (
	failedMount         = "FailedMount"
	failedAttachVolume  = "FailedAttachVolume"
	failedCreateSandbox = "FailedCreatePodSandBox"
	networkNotReady     = "NetworkNotReady"
)

// createdWithin is the maximum age of an event that explains why a pod is not created. The StatefulSet controller retries after at most
// 16 minutes, and its recorder may suppress an event for 5 minutes.
const createdWithin = 30 * time.Minute

// Creation returns why missing pods are not created, from the newest event of the StatefulSet controller; nil if there is none. It
// ignores events about other pods and old events: Kubernetes keeps events for an hour, even if the cause is gone.
//
// The controller doubles its delay after each failure, and also retries whenever a pod of the StatefulSet changes, so that the delay
// soon reaches minutes. Any change of the StatefulSet makes the controller retry at once.
func Creation(set *appsv1.StatefulSet, events []eventsv1.Event, missing []string, now time.Time) *Finding {
	newest := newestOf(events, func(event *eventsv1.Event) bool {
		return event.Reason == FailedCreate && slices.Contains(missing, podOfNote(event.Note)) && now.Sub(lastSeen(event)) < createdWithin
	})
	if newest == nil {
		return nil
	}
	_, answer, found := strings.Cut(newest.Note, "failed error: ")
	if !found {
		answer = newest.Note
	}
	return &Finding{PodNotCreated, fmt.Sprintf("pod %s cannot be created: %s. Kubernetes retries with an increasing delay "+
		"of up to 16 minutes. Correct the cause. To retry at once, run: kubectl -n %s annotate statefulset %s --overwrite tried-at=$(date +%%s)",
		podOfNote(newest.Note), quote(answer), set.Namespace, set.Name)}
}

// podOfNote returns the name of the pod in a note such as "create Pod web-0 in StatefulSet web failed error: …", or "create Claim data-web-0 for
// Pod web-0 in StatefulSet web failed error: …".
func podOfNote(note string) string {
	_, rest, _ := strings.Cut(note, "Pod ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// vaguely is the prefix of the event, every 2 minutes, in which the kubelet lists the unmounted volumes without a reason.
const vaguely = "Unable to attach or mount volumes"

// repeatedWithin is the maximum age of an event with a reason if the newest event has none. The kubelet retries after at most 2 minutes,
// and its recorder may suppress an event for 5 minutes.
const repeatedWithin = 10 * time.Minute

// Start returns why no container of a pod is created, from the newest event that gives a reason; nil if there is none.
func Start(events []eventsv1.Event, node string) *Finding {
	explains := func(event *eventsv1.Event) bool {
		return slices.Contains([]string{failedMount, failedAttachVolume, failedCreateSandbox, networkNotReady}, event.Reason)
	}
	newest := newestOf(events, explains)
	if newest == nil {
		return nil
	}
	precise := newestOf(events, func(event *eventsv1.Event) bool {
		return explains(event) && !strings.HasPrefix(event.Note, vaguely) && lastSeen(newest).Sub(lastSeen(event)) < repeatedWithin
	})
	if precise != nil {
		newest = precise
	}
	if newest.Reason == failedMount || newest.Reason == failedAttachVolume {
		return &Finding{VolumeNotMounted, fmt.Sprintf("a volume cannot be mounted: %s. The kubelet retries. Create the missing object, or correct spec.volumes "+
			"and spec.podTemplateSpec", quote(newest.Note))}
	}
	return &Finding{SandboxNotCreated, fmt.Sprintf("node %q cannot prepare the network or the sandbox of the pod: %s. The kubelet retries. Check the network plugin and the container "+
		"runtime of that node", node, quote(newest.Note))}
}

// newestOf returns the newest event for which counts returns true; nil if there is none.
func newestOf(events []eventsv1.Event, counts func(*eventsv1.Event) bool) *eventsv1.Event {
	var newest *eventsv1.Event
	for i := range events {
		if counts(&events[i]) && (newest == nil || lastSeen(&events[i]).After(lastSeen(newest))) {
			newest = &events[i]
		}
	}
	return newest
}

// lastSeen returns when an event last occurred. The recorders of the built-in controllers still use the deprecated fields.
func lastSeen(event *eventsv1.Event) time.Time {
	if event.Series != nil {
		return event.Series.LastObservedTime.Time
	}
	times := []time.Time{event.DeprecatedLastTimestamp.Time, event.EventTime.Time, event.CreationTimestamp.Time}
	return slices.MaxFunc(times, time.Time.Compare)
}
