package diagnosis

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	now    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server = Server{Container: "mcp", Port: 8080}
)

// pod is one that serves on node a, changed by the functions.
func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{NodeName: "a"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "mcp", Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-time.Hour))}},
			}},
		},
	}
	setCondition(pod, corev1.PodScheduled, corev1.ConditionTrue, "")
	setCondition(pod, corev1.ContainersReady, corev1.ConditionTrue, "")
	setCondition(pod, corev1.PodReady, corev1.ConditionTrue, "")
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func setCondition(pod *corev1.Pod, conditionType corev1.PodConditionType, status corev1.ConditionStatus, message string) {
	set := corev1.PodCondition{Type: conditionType, Status: status, Message: message, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}
	if found := condition(pod, conditionType); found != nil {
		*found = set
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, set)
}

func unready(pod *corev1.Pod) {
	setCondition(pod, corev1.ContainersReady, corev1.ConditionFalse, "")
	setCondition(pod, corev1.PodReady, corev1.ConditionFalse, "")
	pod.Status.ContainerStatuses[0].Ready = false
}

func waits(reason, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		unready(pod)
		pod.Status.Phase = corev1.PodPending
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
}

// ended is a container that has ended and waits for its next start.
func ended(with corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		waits("CrashLoopBackOff", "back-off 10s restarting failed container=mcp")(pod)
		pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &with
	}
}

func limited(memory string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses[0].Resources = &corev1.ResourceRequirements{
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		}
	}
}

func initContainer(pod *corev1.Pod) {
	unready(pod)
	status := pod.Status.ContainerStatuses[0]
	status.Name = "prepare"
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}
	pod.Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{}
}

func startedBefore(age time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		unready(pod)
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(now.Add(-age))
	}
}

// deletedTo is a pod that has to be gone by then.
func deletedTo(at time.Time) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: at} }
}

// TestPod: one cause a row. The messages of the kubelet and the scheduler are as they write them.
func TestPod(t *testing.T) {
	const again = ". The kubelet restarts it, less and less often (CrashLoopBackOff: a back-off of up to 5 minutes)"
	for name, test := range map[string]struct {
		pod     *corev1.Pod
		reason  Reason
		message string
	}{
		"serves":           {pod(), "", ""},
		"is being created": {pod(waits("ContainerCreating", "")), "", ""},
		"starts":           {pod(startedBefore(19 * time.Second)), "", ""},
		"has ended well in an init container": {pod(func(pod *corev1.Pod) {
			pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "prepare", Ready: true, State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}}}
		}), "", ""},
		"has recovered": {pod(func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
		}), "", ""},
		"stops in its grace period": {pod(startedBefore(time.Hour), deletedTo(now.Add(29*time.Second))), "", ""},

		"image that is not there": {pod(waits("ImagePullBackOff", `Back-off pulling image "r.example/a:1": ErrImagePull: not found`)), ImagePullFailed,
			`the image of container "mcp" cannot be pulled (ImagePullBackOff): Back-off pulling image "r.example/a:1": ErrImagePull: not found. ` +
				`Check spec.image, and that spec.imagePullSecrets names a Secret that may pull it. The kubelet goes on trying`},
		"root that is refused": {pod(waits("CreateContainerConfigError",
			`container has runAsNonRoot and image will run as root (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`container "mcp" would run as root, which runAsNonRoot in its template refuses. Set securityContext.runAsUser in ` +
				`spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root`},
		"root by number that is refused": {pod(waits("CreateContainerConfigError",
			`container's runAsUser breaks non-root policy (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`container "mcp" would run as root, which runAsNonRoot in its template refuses. Set securityContext.runAsUser in ` +
				`spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root`},
		"user by name": {pod(waits("CreateContainerConfigError",
			`container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`the image of container "mcp" names its user by a name, of which the kubelet cannot tell that it is not root, as runAsNonRoot in the template demands. ` +
				`Set securityContext.runAsUser in spec.podTemplateSpec to the number of that user`},
		"Secret as env": {pod(waits("CreateContainerConfigError", `secret "token" not found`)), ReferenceMissing,
			`container "mcp" refers to what does not exist: secret "token" not found. Create it, or correct env, envFrom and secrets of the spec. The kubelet goes on trying`},
		"key of a ConfigMap as env": {pod(waits("CreateContainerConfigError", `couldn't find key level in ConfigMap team/settings`)), ReferenceMissing,
			`container "mcp" refers to what does not exist: couldn't find key level in ConfigMap team/settings. Create it, or correct env, envFrom and secrets of the spec. ` +
				`The kubelet goes on trying`},
		"command that cannot be started": {pod(waits("RunContainerError", "failed to start.")), ContainerInvalid,
			`container "mcp" cannot be started (RunContainerError): failed to start. Check spec.command, spec.args and spec.podTemplateSpec`},
		"command that is missing": {pod(ended(corev1.ContainerStateTerminated{Reason: "StartError", ExitCode: 128, Message: `exec: "/absent": no such file`})), CrashLoopBackOff,
			`container "mcp" ends again and again, with exit code 128: exec: "/absent": no such file. Its command may be missing in the image: check spec.command and spec.args` + again},
		"crash with last words": {pod(ended(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3, Message: "no license\nfor \x1b[31myou\x1b[0m\n"})), CrashLoopBackOff,
			`container "mcp" ends again and again, with exit code 3: no license for [31myou[0m. Its log says more: kubectl logs --previous` + again},
		"crash of which nothing is left": {pod(waits("CrashLoopBackOff", "back-off 5m0s restarting failed container")), CrashLoopBackOff,
			`container "mcp" ends again and again (CrashLoopBackOff): back-off 5m0s restarting failed container`},
		"end without an error": {pod(ended(corev1.ContainerStateTerminated{Reason: "Completed"})), CrashLoopBackOff,
			`container "mcp" ends again and again, with exit code 0. A server has to go on running. One that speaks over its standard input ends when there is no client: ` +
				`check spec.transport and spec.args` + again},
		"killed for its memory": {pod(ended(corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}), limited("64Mi")), OOMKilled,
			`container "mcp" was killed because it used more memory than its limit of 64Mi. Raise spec.resources.limits.memory, or let the server use less`},
		"killed for the memory of the node": {pod(ended(corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137})), OOMKilled,
			`container "mcp" was killed because it used more memory than its node had to give. Raise spec.resources.limits.memory, or let the server use less`},
		"init container that fails": {pod(ended(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1}), initContainer), CrashLoopBackOff,
			`init container "prepare" ends again and again, with exit code 1. Its log says more: kubectl logs --previous` + again},
		"does not answer": {pod(startedBefore(20 * time.Second)), NotAnswering,
			`container "mcp" runs, and its probe gets no answer on port 8080. The server may still be starting. It may listen on 127.0.0.1 only, where no probe and no client reaches it: ` +
				`let it listen on the address in MCP_HOST. It may listen on another port: set spec.mcpPort`},
		"sidecar that is not ready": {pod(startedBefore(20*time.Second), func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].Name = "exporter" }), NotAnswering,
			`container "exporter" runs, and its readiness probe fails`},
		"no node": {pod(unready, func(pod *corev1.Pod) {
			setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, `0/1 nodes are available: persistentvolumeclaim "data" not found.`)
		}), Unschedulable, `no node can run it: 0/1 nodes are available: persistentvolumeclaim "data" not found. The scheduler goes on trying`},
		"scheduling gates": {pod(unready, func(pod *corev1.Pod) {
			setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, "Scheduling is blocked due to non-empty scheduling gates")
			condition(pod, corev1.PodScheduled).Reason = corev1.PodReasonSchedulingGated
		}), SchedulingGated, `it has scheduling gates, and is not scheduled before whoever set them has removed them`},
		"node that is lost": {pod(func(pod *corev1.Pod) { setCondition(pod, corev1.PodReady, corev1.ConditionFalse, "") }), NodeLost,
			`its node "a" does not report to Kubernetes. Kubernetes does not replace the pod while it may still run there. Repair the node. ` +
				`If the node is gone for good, run: kubectl delete node a`},
		"deletion that nobody confirms": {pod(deletedTo(now.Add(-30 * time.Second))), TerminatingTooLong,
			`it should have ended by now, and its node "a" has not confirmed that it has. Look at the node. If it is gone for good, run: kubectl delete node a`},
		"finalizer": {pod(deletedTo(now.Add(-time.Hour)), func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/hold"} }), TerminatingTooLong,
			`it is being deleted, and the finalizer example.com/hold keeps it. Whoever set the finalizer has to remove it`},
		"eviction": {pod(func(pod *corev1.Pod) {
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory. "}
		}), Evicted, `the kubelet has evicted it from node "a": The node was low on resource: memory. Kubernetes replaces it; ` +
			`to keep it from happening again, set requests for what the node ran out of`},
	} {
		t.Run(name, func(t *testing.T) {
			finding := Pod(test.pod, server, now)
			if finding == nil {
				finding = &Finding{}
			}
			if finding.Reason != test.reason || finding.Message != test.message {
				t.Errorf("got  %s: %s\nwant %s: %s", finding.Reason, finding.Message, test.reason, test.message)
			}
		})
	}
}

// TestACrashIsToldTheSameWhileItGoesOn: the kubelet waits, starts the container and sees it end again, and the status does not
// change at each of these.
func TestACrashIsToldTheSameWhileItGoesOn(t *testing.T) {
	end := corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3}
	want := Pod(pod(ended(end)), server, now)
	for name, state := range map[string]corev1.ContainerState{
		"runs again":  {Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}},
		"ended again": {Terminated: &end},
	} {
		crashing := pod(ended(end))
		crashing.Status.ContainerStatuses[0].State = state
		if got := Pod(crashing, server, now); got == nil || *got != *want {
			t.Errorf("one that %s: got %v, wanted %v", name, got, want)
		}
	}
}

// TestTextOfOthersIsBounded: of a program's last words the end counts, of a message the beginning.
func TestTextOfOthersIsBounded(t *testing.T) {
	long := strings.Repeat("ä", 10_000)
	last := Pod(pod(ended(corev1.ContainerStateTerminated{ExitCode: 1, Message: long + "end"})), server, now)
	first := Pod(pod(waits("ImagePullBackOff", "begin"+long)), server, now)
	for name, test := range map[string]struct{ message, has string }{
		"the last words of a program": {last.Message, "ääend"}, "a message": {first.Message, "beginää"},
	} {
		if len([]rune(test.message)) > 1000 || !strings.Contains(test.message, test.has) {
			t.Errorf("%s: got %d runes: %s", name, len([]rune(test.message)), test.message)
		}
	}
}

// TestLookAgain: when time alone tells that a pod does not work, another look is due right then.
func TestLookAgain(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want time.Duration
	}{
		"serves":                  {pod(), 0},
		"has just started":        {pod(startedBefore(5 * time.Second)), 15 * time.Second},
		"has not answered":        {pod(startedBefore(20 * time.Second)), 0},
		"was scheduled long ago":  {pod(waits("ContainerCreating", "")), 0},
		"stops":                   {pod(deletedTo(now.Add(5 * time.Second))), 35 * time.Second},
		"was not created in time": {pod(waits("CreateContainerConfigError", "")), 0},
	} {
		if got := LookAgain(test.pod, now); got != test.want {
			t.Errorf("a pod that %s: got %s, wanted %s", name, got, test.want)
		}
	}
	scheduled := pod(waits("ContainerCreating", ""))
	condition(scheduled, corev1.PodScheduled).LastTransitionTime = metav1.NewTime(now.Add(-4 * time.Second))
	if got := LookAgain(scheduled, now); got != 6*time.Second || WaitsForVolumes(scheduled, now) || !WaitsForVolumes(scheduled, now.Add(got)) {
		t.Errorf("a pod that is being created: look again after %s", got)
	}
}

// TestWasKilled: told for ten minutes, and only of a container that works again.
func TestWasKilled(t *testing.T) {
	killed := func(age time.Duration) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
				Reason: "OOMKilled", FinishedAt: metav1.NewTime(now.Add(-age)),
			}
		}
	}
	finding, left := WasKilled(pod(killed(time.Minute), limited("64Mi")), now)
	const want = `container "mcp" was killed at 2026-01-02T03:03:05Z because it used more memory than its limit of 64Mi, and runs again. ` +
		`Raise spec.resources.limits.memory, or let the server use less`
	if finding == nil || finding.Message != want || left != 9*time.Minute {
		t.Errorf("got %v for %s, wanted %s for 9m", finding, left, want)
	}
	for name, pod := range map[string]*corev1.Pod{"serves": pod(), "was killed long ago": pod(killed(10 * time.Minute)), "is down": pod(killed(0), unready)} {
		if finding, _ := WasKilled(pod, now); finding != nil {
			t.Errorf("of one that %s it says %v", name, finding)
		}
	}
}

func eventAt(reason, note string, age time.Duration) eventsv1.Event {
	return eventsv1.Event{Reason: reason, Note: note, DeprecatedLastTimestamp: metav1.NewTime(now.Add(-age))}
}

// TestEvents: the newest of the reason counts.
func TestEvents(t *testing.T) {
	const quota = `create Pod web-1 in StatefulSet web failed error: pods "web-1" is forbidden: exceeded quota: q, requested: pods=1`
	events := []eventsv1.Event{
		eventAt(EventFailedCreate, "create Pod web-1 in StatefulSet web failed error: old", time.Hour),
		eventAt(EventFailedCreate, quota, time.Minute),
		eventAt("SuccessfulCreate", "create Pod web-0 in StatefulSet web successful", 0),
		eventAt(EventFailedMount, `MountVolume.SetUp failed for volume "v" : configmap "c" not found`, 0),
	}
	const wantCreation = `the API server refuses a pod: pods "web-1" is forbidden: exceeded quota: q, requested: pods=1. Correct what refuses it; ` +
		`Kubernetes goes on trying, less and less often, up to once in 16 minutes`
	if got := Creation(events); got == nil || got.Reason != PodNotCreated || got.Message != wantCreation {
		t.Errorf("got %v", got)
	}
	const wantMount = `a volume cannot be mounted: MountVolume.SetUp failed for volume "v" : configmap "c" not found. ` +
		`Create what is missing, or correct spec.volumes and spec.podTemplateSpec. The kubelet goes on trying`
	if got := Mount(events); got == nil || got.Reason != VolumeNotMounted || got.Message != wantMount {
		t.Errorf("got %v", got)
	}
	if Creation(nil) != nil || Mount(events[:3]) != nil {
		t.Error("without an event there is a finding")
	}
}

func TestSurplus(t *testing.T) {
	got := Surplus("team", 4, []string{"web-3"}, []string{"web-5", "web-6"}, &Finding{PodNotCreated, "the quota is full"})
	const want = "pods web-5 and web-6 are above the scale of 4, and Kubernetes does not delete them while it cannot create web-3 (kubernetes/kubernetes#140858). " +
		"Run: kubectl -n team delete pod web-5 web-6; the quota is full"
	if got.Reason != SurplusPods || got.Message != want {
		t.Errorf("got %v", got)
	}
}
