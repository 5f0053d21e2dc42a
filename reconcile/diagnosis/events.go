package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	eventsv1 "k8s.io/api/events/v1"
)

// Reasons of the events that tell what the objects themselves do not.
const (
	// EventFailedCreate is on a StatefulSet whose controller could not create a pod.
	EventFailedCreate = "FailedCreate"
	// EventFailedMount is on a pod for which the kubelet could not mount a volume.
	EventFailedMount = "FailedMount"
)

// Creation says why pods are not created, by the newest event of the StatefulSet controller; nil when there is none.
func Creation(events []eventsv1.Event) *Finding {
	newest := newestOf(events, EventFailedCreate)
	if newest == nil {
		return nil
	}
	// "create Pod NAME in StatefulSet NAME failed error: ANSWER"
	_, answer, found := strings.Cut(newest.Note, "failed error: ")
	if !found {
		answer = newest.Note
	}
	return &Finding{PodNotCreated, fmt.Sprintf("the API server refuses a pod: %s. Correct what refuses it; Kubernetes goes on trying, less and less often, "+
		"up to once in 16 minutes", quote(answer))}
}

// Mount says why a pod does not start, by its newest event about a volume; nil when there is none.
func Mount(events []eventsv1.Event) *Finding {
	newest := newestOf(events, EventFailedMount)
	if newest == nil {
		return nil
	}
	return &Finding{VolumeNotMounted, fmt.Sprintf("a volume cannot be mounted: %s. Create what is missing, or correct spec.volumes and spec.podTemplateSpec. "+
		"The kubelet goes on trying", quote(newest.Note))}
}

func newestOf(events []eventsv1.Event, reason string) *eventsv1.Event {
	var newest *eventsv1.Event
	for i := range events {
		if events[i].Reason == reason && (newest == nil || lastSeen(&events[i]).After(lastSeen(newest))) {
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
