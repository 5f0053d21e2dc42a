package observe

import (
	"context"
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/diagnosis"
)

// eventLog is an API server with one event. It records the requests.
type eventLog struct {
	client.Reader
	note string
	err  error
	asks []string
}

func (l *eventLog) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	l.asks = append(l.asks, asked.Namespace+" "+asked.FieldSelector.String())
	if l.note != "" {
		list.(*eventsv1.EventList).Items = []eventsv1.Event{{Reason: diagnosis.FailedCreate, Note: l.note, DeprecatedLastTimestamp: metav1.NewTime(start)}}
	}
	return l.err
}

// blockedPass returns a pass over MCPServer web, which has not been ready for some time.
func blockedPass(unready time.Duration) *Snapshot {
	p := &Snapshot{Server: &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}, Now: metav1.NewTime(start)}
	p.Server.Status.Conditions = []metav1.Condition{{
		Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(start.Add(-unready)),
	}}
	return p
}

// setWith returns a StatefulSet with a scale of two and the given number of pods in its status.
func setWith(existing int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "set"},
		Spec:       appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), PodManagementPolicy: appsv1.ParallelPodManagement},
		Status:     appsv1.StatefulSetStatus{Replicas: existing},
	}
}

func servingPods(names ...string) (pods []*corev1.Pod) {
	for _, name := range names {
		pod := podWith(true, running())
		pod.Name = name
		pods = append(pods, pod)
	}
	return pods
}

// TestEventsAreAskedForOnlyWhenNothingElseExplains verifies that the operator lists events only for a lasting problem without another
// explanation.
func TestEventsAreAskedForOnlyWhenNothingElseExplains(t *testing.T) {
	const refused = "create Pod web-0 in StatefulSet web failed error: exceeded quota"
	inOrder, unseen, goes := setWith(1), setWith(1), setWith(1)
	inOrder.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	unseen.Generation = 1
	goes.DeletionTimestamp = ptr.To(metav1.NewTime(start))
	broken := servingPods("web-1")
	broken[0].Status.Conditions = podWith(false, running()).Status.Conditions
	for name, c := range map[string]struct {
		set     *appsv1.StatefulSet
		pods    []*corev1.Pod
		unready time.Duration
		reason  diagnosis.Reason // of the finding; empty if no request is sent
		wait    time.Duration    // until the next check
	}{
		"all pods exist":                                  {setWith(2), servingPods("web-0", "web-1"), time.Minute, "", 0},
		"a pod is missing":                                {setWith(1), servingPods("web-1"), blockedAfter, diagnosis.PodNotCreated, blockedAfter},
		"a pod is missing for a second":                   {setWith(1), servingPods("web-1"), time.Second, "", 2 * time.Second},
		"a pod is missing for a minute":                   {setWith(1), servingPods("web-1"), time.Minute, diagnosis.PodNotCreated, 30 * time.Second},
		"a pod is missing for an hour":                    {setWith(1), servingPods("web-1"), time.Hour, diagnosis.PodNotCreated, askMost},
		"the controller has not observed the StatefulSet": {unseen, servingPods("web-1"), time.Minute, "", 0},
		"the StatefulSet is being deleted":                {goes, servingPods("web-1"), time.Minute, "", 0},
		"the cache does not show the last pod yet":        {setWith(2), servingPods("web-0"), time.Minute, "", 0},
		"a surplus pod will be deleted":                   {setWith(3), servingPods("web-0", "web-1", "web-2"), time.Minute, "", 0},
		"a surplus pod instead of a missing pod":          {setWith(2), servingPods("web-1", "web-2"), time.Minute, diagnosis.SurplusPods, 30 * time.Second},
		"a pod is missing, and is next in order":          {inOrder, servingPods("web-1"), time.Minute, diagnosis.PodNotCreated, 30 * time.Second},
		"a pod is missing, and waits for an earlier pod":  {inOrder, broken, time.Minute, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := &eventLog{note: refused}
			r, seen := &Reader{APIReader: log}, Pods{}
			r.readBlockade(t.Context(), blockedPass(c.unready), c.set, c.pods, &seen)
			var reason diagnosis.Reason
			if seen.Blocked != nil {
				reason = seen.Blocked.Reason
			}
			if reason != c.reason || seen.LookAgain != c.wait || (len(log.asks) > 0) != (c.reason != "") {
				t.Errorf("found %q, next check after %s, requests %q", reason, seen.LookAgain, log.asks)
			}
			for _, ask := range log.asks {
				if ask != "team regarding.uid=set,reason=FailedCreate" {
					t.Errorf("asked for %q", ask)
				}
			}
		})
	}
}

// TestEventsAreAskedForLessAndLessOften verifies that an answer, even an empty answer, is reused for some time. It is removed when events are no
// longer needed.
func TestEventsAreAskedForLessAndLessOften(t *testing.T) {
	for name, err := range map[string]error{"an answer": nil, "no answer": errors.New("the API server is away")} {
		log := &eventLog{err: err}
		r, p := &Reader{APIReader: log}, blockedPass(blockedAfter)
		for range 600 {
			r.readBlockade(t.Context(), p, setWith(1), servingPods("web-1"), &Pods{})
			p.Now = metav1.NewTime(p.Now.Add(time.Second))
		}
		if asks := len(log.asks); asks < 8 || asks > 20 {
			t.Errorf("%s: %d requests in 10 minutes", name, asks)
		}
		r.asked.forget(client.ObjectKeyFromObject(p.Server))
		before := len(log.asks)
		r.readBlockade(t.Context(), p, setWith(1), servingPods("web-1"), &Pods{})
		if len(log.asks) != before+1 {
			t.Errorf("%s: a removed answer is still used", name)
		}
	}
}

// TestAPodThatDoesNotStartIsAskedAbout verifies that the operator lists the Warning events of a pod that does not start, with any reason.
func TestAPodThatDoesNotStartIsAskedAbout(t *testing.T) {
	waits := podWith(false, waiting("ContainerCreating"))
	waits.Namespace, waits.Name, waits.UID, waits.Status.Phase = "team", "web-0", "pod", corev1.PodPending
	waits.Status.Conditions[0].LastTransitionTime = metav1.NewTime(start.Add(-time.Minute))
	log := &eventLog{}
	seen := Pods{}
	(&Reader{APIReader: log}).readPod(t.Context(), blockedPass(time.Minute), waits, diagnosis.Server{}, &seen)
	if len(log.asks) != 1 || log.asks[0] != "team regarding.uid=pod,type=Warning" || seen.LookAgain != 30*time.Second {
		t.Errorf("requests %q, next check after %s", log.asks, seen.LookAgain)
	}
}
