package diagnosis

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func eventAt(reason, note string, age time.Duration) eventsv1.Event {
	return eventsv1.Event{Reason: reason, Note: note, DeprecatedLastTimestamp: metav1.NewTime(now.Add(-age))}
}

// TestCreation verifies that the newest event about a missing pod determines the finding.
func TestCreation(t *testing.T) {
	const quota = `create Pod web-1 in StatefulSet web failed error: pods "web-1" is forbidden: exceeded quota: q, requested: pods=1`
	const claim = `create Claim data-web-1 for Pod web-1 in StatefulSet web failed error: persistentvolumeclaims "data-web-1" is forbidden: exceeded quota: q.`
	const goesOn = ". Kubernetes retries with an increasing delay of up to 16 minutes. Correct the cause. " +
		"To retry at once, run: kubectl -n team annotate statefulset web --overwrite tried-at=$(date +%s)"
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	for name, test := range map[string]struct {
		events []eventsv1.Event
		want   string
	}{
		"the newest": {[]eventsv1.Event{
			eventAt(FailedCreate, "create Pod web-1 in StatefulSet web failed error: old", 20*time.Minute),
			eventAt(FailedCreate, quota, time.Minute),
			eventAt("SuccessfulCreate", "create Pod web-1 in StatefulSet web successful", 0),
		}, `pod web-1 cannot be created: pods "web-1" is forbidden: exceeded quota: q, requested: pods=1` + goesOn},
		"a claim": {[]eventsv1.Event{eventAt(FailedCreate, claim, 0)},
			`pod web-1 cannot be created: persistentvolumeclaims "data-web-1" is forbidden: exceeded quota: q` + goesOn},
		"none":                              {nil, ""},
		"a pod that exists":                 {[]eventsv1.Event{eventAt(FailedCreate, "create Pod web-0 in StatefulSet web failed error: x", 0)}, ""},
		"a cause that must be gone":         {[]eventsv1.Event{eventAt(FailedCreate, quota, 30*time.Minute)}, ""},
		"a pod of which the name begins so": {[]eventsv1.Event{eventAt(FailedCreate, "create Pod web-11 in StatefulSet web failed error: x", 0)}, ""},
	} {
		got := Creation(set, test.events, []string{"web-1", "web-2"}, now)
		if got == nil {
			got = &Finding{PodNotCreated, ""}
		}
		if got.Reason != PodNotCreated || got.Message != test.want {
			t.Errorf("%s: got %v, wanted %s", name, got, test.want)
		}
	}
}

// TestStart verifies that the newest event with a cause determines the finding, not an event that only repeats that a volume is not mounted.
func TestStart(t *testing.T) {
	absent := eventAt("FailedMount", `MountVolume.SetUp failed for volume "v" : configmap "c" not found`, 3*time.Minute)
	vague := eventAt("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[]: context deadline exceeded", 0)
	attach := eventAt("FailedAttachVolume", `Multi-Attach error for volume "p" Volume is already exclusively attached to one node and can't be attached to another`, time.Minute)
	network := eventAt("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin bridge failed: no addresses.", 0)
	const fix = ". The kubelet retries. Create the missing object, or correct spec.volumes and spec.podTemplateSpec"
	old := absent
	old.DeprecatedLastTimestamp = metav1.NewTime(now.Add(-10 * time.Minute))
	for name, test := range map[string]struct {
		events  []eventsv1.Event
		reason  Reason
		message string
	}{
		"none":                  {[]eventsv1.Event{eventAt("Pulling", "Pulling image", 0)}, "", ""},
		"a volume":              {[]eventsv1.Event{absent}, VolumeNotMounted, "a volume cannot be mounted: " + absent.Note + fix},
		"a volume, and vaguely": {[]eventsv1.Event{vague, absent}, VolumeNotMounted, "a volume cannot be mounted: " + absent.Note + fix},
		"only vaguely":          {[]eventsv1.Event{vague}, VolumeNotMounted, "a volume cannot be mounted: " + vague.Note + fix},
		"a reason of long ago":  {[]eventsv1.Event{vague, old}, VolumeNotMounted, "a volume cannot be mounted: " + vague.Note + fix},
		"a newer reason":        {[]eventsv1.Event{attach, absent}, VolumeNotMounted, "a volume cannot be mounted: " + attach.Note + fix},
		"the network, at the last": {[]eventsv1.Event{absent, network}, SandboxNotCreated, `node "a" cannot prepare the network or the sandbox of the pod: ` +
			"Failed to create pod sandbox: plugin bridge failed: no addresses. The kubelet retries. Check the network plugin and the container runtime of that node"},
	} {
		got := Start(test.events, "a")
		if got == nil {
			got = &Finding{}
		}
		if got.Reason != test.reason || got.Message != test.message {
			t.Errorf("%s: got %v, wanted %s", name, got, test.message)
		}
	}
}
