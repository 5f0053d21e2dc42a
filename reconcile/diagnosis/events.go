package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
)

// FailedCreate is the reason of the events on a StatefulSet whose controller could not create a pod.
const FailedCreate = "FailedCreate"

// The reasons of the events on a pod that does not start.
const (
	failedMount         = "FailedMount"
	failedAttachVolume  = "FailedAttachVolume"
	failedCreateSandbox = "FailedCreatePodSandBox"
	networkNotReady     = "NetworkNotReady"
)

// createdWithin is how old an event may be and still say why a pod is not created. The StatefulSet controller tries again after
// at most 16 minutes, and its recorder may hold back one event in 5 minutes.
const createdWithin = 30 * time.Minute

// Creation says why pods that are missing are not created, by the newest event of the StatefulSet controller; nil when there is
// none. An event about another pod, or of long ago, explains nothing: events are kept for an hour, also when their cause is gone.
//
// The controller waits twice as long after each failure, and fails also whenever a pod of the StatefulSet changes: it may wait for
// minutes soon. Any change of the StatefulSet makes it try at once.
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
	return &Finding{PodNotCreated, fmt.Sprintf("pod %s cannot be created: %s. Correct what refuses it. Kubernetes goes on trying, less and less often, "+
		"up to once in 16 minutes. To have it try at once, run: kubectl -n %s annotate statefulset %s --overwrite tried-at=$(date +%%s)",
		podOfNote(newest.Note), quote(answer), set.Namespace, set.Name)}
}

// podOfNote names the pod in a note such as "create Pod web-0 in StatefulSet web failed error: …", or "create Claim data-web-0 for
// Pod web-0 in StatefulSet web failed error: …".
func podOfNote(note string) string {
	_, rest, _ := strings.Cut(note, "Pod ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// vaguely is how the kubelet begins, every 2 minutes, to say only which volumes are not mounted.
const vaguely = "Unable to attach or mount volumes"

// repeatedWithin is how old an event may be that says why, when a newer one says only what. The kubelet tries again after at most
// 2 minutes, and its recorder may hold back one event in 5 minutes.
const repeatedWithin = 10 * time.Minute

// Start says why no container of a pod is created, by its newest event that gives a reason; nil when there is none.
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
		return &Finding{VolumeNotMounted, fmt.Sprintf("a volume cannot be mounted: %s. Create what is missing, or correct spec.volumes and spec.podTemplateSpec. "+
			"The kubelet goes on trying", quote(newest.Note))}
	}
	return &Finding{SandboxNotCreated, fmt.Sprintf("node %q cannot prepare the network or the sandbox of the pod: %s. Look at the network plugin and the container runtime "+
		"of that node. The kubelet goes on trying", node, quote(newest.Note))}
}

// newestOf returns the newest of the events that count; nil when none does.
func newestOf(events []eventsv1.Event, counts func(*eventsv1.Event) bool) *eventsv1.Event {
	var newest *eventsv1.Event
	for i := range events {
		if counts(&events[i]) && (newest == nil || lastSeen(&events[i]).After(lastSeen(newest))) {
			newest = &events[i]
		}
	}
	return newest
}

// lastSeen is when an event happened last. The recorders of Kubernetes' own controllers still count with the deprecated fields.
func lastSeen(event *eventsv1.Event) time.Time {
	if event.Series != nil {
		return event.Series.LastObservedTime.Time
	}
	times := []time.Time{event.DeprecatedLastTimestamp.Time, event.EventTime.Time, event.CreationTimestamp.Time}
	return slices.MaxFunc(times, time.Time.Compare)
}
