package diagnosis

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var (
	now    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server = Server{Container: "mcp", Port: 8080, Startup: 5 * time.Minute, Grace: 30 * time.Second}
)

// pod returns a serving pod on node a, with the given changes.
func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web-0"},
		Spec:       corev1.PodSpec{NodeName: "a"},
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

// ended sets a container that has ended and waits for a restart.
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

// ran returns the termination state of a container that ran for some time.
func ran(time time.Duration, exitCode int32, reason string) corev1.ContainerStateTerminated {
	return corev1.ContainerStateTerminated{
		Reason: reason, ExitCode: exitCode, StartedAt: metav1.NewTime(now.Add(-time)), FinishedAt: metav1.NewTime(now),
	}
}

// restarted sets a container that runs again after the given number of restarts.
func restarted(times int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		unready(pod)
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses[0].RestartCount = times
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}}
	}
}

// gated sets a readiness gate whose condition has the given status.
func gated(open corev1.ConditionStatus) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
		setCondition(pod, "example.com/gate", open, "")
		setCondition(pod, corev1.PodReady, corev1.ConditionFalse, "")
	}
}

// unseen returns a pod that no scheduler has processed.
func unseen(age time.Duration) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-age))}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
}

// deletedTo sets the time by which a deleted pod must be gone.
func deletedTo(at time.Time) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: at} }
}

// TestPod tests one cause per row. The messages are those of a real kubelet and a real scheduler.
func TestPod(t *testing.T) {
	const silent = `container "mcp" does not answer on port 8080. The server may still be starting. If the server listens only on 127.0.0.1, probes and clients cannot reach it: ` +
		`configure it to listen on the address in MCP_HOST or FASTMCP_HOST. If it listens on another port, set spec.mcpPort. ` +
		`The kubelet restarts the container if it does not answer within 5m0s`
	const again = ". The kubelet restarts it with an increasing delay of up to 5 minutes (CrashLoopBackOff)"
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

		"image that is not there": {pod(waits("ErrImagePull", `failed to resolve reference "r.example/a:1": not found`)), ImagePullFailed,
			`the image of container "mcp" cannot be pulled (ImagePullBackOff): failed to resolve reference "r.example/a:1": not found. ` +
				`The kubelet retries. Check spec.image, and that spec.imagePullSecrets names a Secret with access to the image`},
		"image whose back-off is over soon": {pod(waits("ImagePullBackOff", `Back-off pulling image "r.example/a:1"`)), ImagePullFailed,
			`the image of container "mcp" cannot be pulled (ImagePullBackOff): Back-off pulling image "r.example/a:1". ` +
				`The kubelet retries. Check spec.image, and that spec.imagePullSecrets names a Secret with access to the image`},
		"image of an init container": {pod(waits("ErrImagePull", "not found"), initContainer), ImagePullFailed,
			`the image of init container "prepare" cannot be pulled (ImagePullBackOff): not found. ` +
				`The kubelet retries. Check its image in spec.podTemplateSpec, and that spec.imagePullSecrets names a Secret with access to the image`},
		"image that may not be pulled": {pod(waits("ErrImageNeverPull", `Container image "a:1" is not present with pull policy of Never`)), ImagePullFailed,
			`the image of container "mcp" must not be pulled (ErrImageNeverPull): Container image "a:1" is not present with pull policy of Never. ` +
				`Load the image on the node, or set imagePullPolicy to a value other than Never`},
		"name of an image that is none": {pod(waits("InvalidImageName", `Failed to apply default image tag "A": couldn't parse image name "A": invalid reference format`)), ImagePullFailed,
			`the image of container "mcp" cannot be used (InvalidImageName): Failed to apply default image tag "A": couldn't parse image name "A": invalid reference format. Correct spec.image`},
		"root that is refused": {pod(waits("CreateContainerConfigError",
			`container has runAsNonRoot and image will run as root (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`container "mcp" would run as root, but runAsNonRoot in its template does not allow root. Set securityContext.runAsUser in ` +
				`spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root`},
		"root by number that is refused": {pod(waits("CreateContainerConfigError",
			`container's runAsUser breaks non-root policy (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`container "mcp" would run as root, but runAsNonRoot in its template does not allow root. Set securityContext.runAsUser in ` +
				`spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root`},
		"user by name": {pod(waits("CreateContainerConfigError",
			`container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "web-0_team(1)", container: mcp)`)), RootRefused,
			`the image of container "mcp" sets its user by name. The template sets runAsNonRoot, and the kubelet cannot verify that a named user is not root. ` +
				`Set securityContext.runAsUser in spec.podTemplateSpec to the numeric ID of the user`},
		"Secret as env": {pod(waits("CreateContainerConfigError", `secret "token" not found`)), ReferenceMissing,
			`container "mcp" refers to an object or a key that does not exist: secret "token" not found. The kubelet retries. Create it, or correct env, envFrom and secrets of the spec`},
		"key of a ConfigMap as env": {pod(waits("CreateContainerConfigError", `couldn't find key level in ConfigMap team/settings`)), ReferenceMissing,
			`container "mcp" refers to an object or a key that does not exist: couldn't find key level in ConfigMap team/settings. The kubelet retries. ` +
				`Create it, or correct env, envFrom and secrets of the spec`},
		"command that cannot be started": {pod(waits("RunContainerError", "failed to start.")), ContainerInvalid,
			`container "mcp" cannot be started (RunContainerError): failed to start. Check spec.command, spec.args and spec.podTemplateSpec`},
		"command that is missing": {pod(ended(corev1.ContainerStateTerminated{Reason: "StartError", ExitCode: 128, Message: `exec: "/absent": no such file`})), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 128: exec: "/absent": no such file. Its command may be missing in the image: check spec.command and spec.args` + again},
		"crash with last words": {pod(ended(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3, Message: "no license\nfor \x1b[31myou\x1b[0m\n"})), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 3: no license for [31myou[0m. To see its log, run: kubectl -n team logs web-0 -c mcp --previous` + again},
		"crash that goes on while it runs again": {pod(ended(ran(time.Minute, 3, "Error")), restarted(2)), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 3. To see its log, run: kubectl -n team logs web-0 -c mcp --previous` + again},
		"end by a signal": {pod(ended(ran(time.Minute, 137, "Error"))), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 137. A signal ended the container. The kubelet sends a signal when a liveness or startup probe in the template fails. Run: ` +
				`kubectl -n team describe pod web-0` + again},
		"crash of which nothing is left": {pod(waits("CrashLoopBackOff", "back-off 5m0s restarting failed container")), CrashLoopBackOff,
			`container "mcp" exits repeatedly (CrashLoopBackOff): back-off 5m0s restarting failed container`},
		"end without an error": {pod(ended(corev1.ContainerStateTerminated{Reason: "Completed"})), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 0. A server must keep running. A server on standard input exits when no client is connected: ` +
				`check spec.transport and spec.args` + again},
		"killed for its memory": {pod(ended(corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}), limited("64Mi")), OOMKilled,
			`container "mcp" was killed because it used more memory than its limit of 64Mi. Raise spec.resources.limits.memory, or reduce the memory that the server uses`},
		"killed for the memory of the node": {pod(ended(corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137})), OOMKilled,
			`container "mcp" was killed because it used more memory than its node had available. Raise spec.resources.limits.memory, or reduce the memory that the server uses`},
		"init container that fails": {pod(ended(corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1}), initContainer), CrashLoopBackOff,
			`init container "prepare" exits repeatedly with exit code 1. To see its log, run: kubectl -n team logs web-0 -c prepare --previous` + again},
		"has ended once and runs again": {pod(ended(ran(time.Hour, 255, "Unknown")), restarted(1)), "", ""},
		"killed for its memory, and runs again": {pod(ended(ran(time.Hour, 137, "OOMKilled")), limited("64Mi"), restarted(1)), OOMKilled,
			`container "mcp" was killed because it used more memory than its limit of 64Mi. Raise spec.resources.limits.memory, or reduce the memory that the server uses`},
		"gave no answer until the kubelet ended it":                  {pod(ended(ran(5*time.Minute, 143, "Error"))), NotAnswering, silent},
		"gave none, ignored that it was told to end, and runs again": {pod(ended(ran(5*time.Minute+30*time.Second, 137, "Error")), restarted(2)), NotAnswering, silent},
		"ends by itself after the same time": {pod(ended(ran(5*time.Minute, 1, "Error"))), CrashLoopBackOff,
			`container "mcp" exits repeatedly with exit code 1. To see its log, run: kubectl -n team logs web-0 -c mcp --previous` + again},
		"does not answer": {pod(startedBefore(20 * time.Second)), NotAnswering, silent},
		"does not answer any more": {pod(startedBefore(time.Hour), func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].Started = ptr.To(true) }), NotAnswering,
			`container "mcp" has started, but its readiness probe fails now. To see its log, run: kubectl -n team logs web-0 -c mcp`},
		"container beside it that is not ready": {pod(startedBefore(20*time.Second), func(pod *corev1.Pod) { pod.Status.ContainerStatuses[0].Name = "exporter" }), NotAnswering,
			`container "exporter" runs, but its readiness probe fails. To see its log, run: kubectl -n team logs web-0 -c exporter`},
		"sidecar that is not ready": {pod(startedBefore(20*time.Second), func(pod *corev1.Pod) {
			sidecar := pod.Status.ContainerStatuses[0]
			sidecar.Name = "proxy"
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses[0].Ready = []corev1.ContainerStatus{sidecar}, true
		}), NotAnswering, `sidecar container "proxy" runs, but its readiness probe fails. To see its log, run: kubectl -n team logs web-0 -c proxy`},
		"gate that is closed": {pod(gated(corev1.ConditionFalse)), ReadinessGate, `its containers are ready, but its readiness gate example.com/gate is not. ` +
			`Check the controller that sets this condition of the pod to True`},
		"node that is lost, with a gate": {pod(gated(corev1.ConditionTrue)), NodeLost,
			`its node "a" does not report to Kubernetes. Kubernetes does not replace the pod while it may still run there. Repair the node. ` +
				`If the node is permanently gone, run: kubectl delete node a`},
		"is new": {unseen(9 * time.Second), "", ""},
		"no scheduler": {unseen(10 * time.Second), Unschedulable, `no scheduler has processed it. Check that the scheduler runs that schedulerName in ` +
			`spec.podTemplateSpec names. If schedulerName is unset, this is default-scheduler`},
		"no node": {pod(unready, func(pod *corev1.Pod) {
			setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, `0/1 nodes are available: persistentvolumeclaim "data" not found.`)
		}), Unschedulable, `no node can run it: 0/1 nodes are available: persistentvolumeclaim "data" not found. The scheduler retries`},
		"scheduling gates": {pod(unready, func(pod *corev1.Pod) {
			setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, "Scheduling is blocked due to non-empty scheduling gates")
			condition(pod, corev1.PodScheduled).Reason = corev1.PodReasonSchedulingGated
		}), SchedulingGated, `it has scheduling gates, and is not scheduled until they are removed. Check the controller that removes them`},
		"node that is lost": {pod(func(pod *corev1.Pod) { setCondition(pod, corev1.PodReady, corev1.ConditionFalse, "") }), NodeLost,
			`its node "a" does not report to Kubernetes. Kubernetes does not replace the pod while it may still run there. Repair the node. ` +
				`If the node is permanently gone, run: kubectl delete node a`},
		"deletion that nobody confirms": {pod(deletedTo(now.Add(-30 * time.Second))), TerminatingTooLong,
			`its grace period is over, but its node "a" has not confirmed that it has ended. Check the node. If the node is permanently gone, run: kubectl delete node a`},
		"finalizer": {pod(deletedTo(now.Add(-time.Hour)), func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/hold"} }), TerminatingTooLong,
			`it is being deleted, but the finalizer example.com/hold prevents this. The controller that set the finalizer must remove it`},
		"failure": {pod(func(pod *corev1.Pod) {
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Node didn't have enough resource: cpu"}
		}), PodFailed, `it has failed (OutOfcpu): Node didn't have enough resource: cpu. Kubernetes replaces it`},
		"failure without a word": {pod(func(pod *corev1.Pod) { pod.Status = corev1.PodStatus{Phase: corev1.PodFailed} }), PodFailed, `it has failed. Kubernetes replaces it`},
		"eviction": {pod(func(pod *corev1.Pod) {
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory. "}
		}), Evicted, `the kubelet evicted it from node "a": The node was low on resource: memory. Kubernetes replaces it. ` +
			`To avoid evictions, set requests for the resource that the node ran out of`},
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

// TestTheSameIsToldWhileItGoesOn verifies that the finding does not change while the kubelet waits, retries and fails again.
func TestTheSameIsToldWhileItGoesOn(t *testing.T) {
	crash, noProgram := ran(time.Minute, 3, "Error"), ran(0, 128, "StartError")
	const pull = `failed to resolve reference "r.example/a:1": not found`
	afterwards := func(state corev1.ContainerState, end corev1.ContainerStateTerminated) *corev1.Pod {
		pod := pod(ended(end), restarted(2))
		pod.Status.ContainerStatuses[0].State = state
		return pod
	}
	for name, pods := range map[string][]*corev1.Pod{
		"a crash": {
			pod(ended(crash)), pod(ended(crash), restarted(2)), afterwards(corev1.ContainerState{Terminated: &crash}, crash),
		},
		"a program that is missing": {
			pod(ended(noProgram)),
			afterwards(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: "failed to start"}}, noProgram),
			afterwards(corev1.ContainerState{Terminated: &noProgram}, noProgram),
		},
		"a pull that fails": {
			pod(waits("ErrImagePull", pull)), pod(waits("ImagePullBackOff", `Back-off pulling image "r.example/a:1": ErrImagePull: `+pull)),
		},
		"a name server that is away": {
			pod(waits("ErrImagePull", "lookup r.example on 10.0.0.53:53: read udp 10.0.0.1:51994->10.0.0.53:53: i/o timeout")),
			pod(waits("ErrImagePull", "lookup r.example on 10.0.0.53:53: read udp 10.0.0.1:38112->10.0.0.53:53: i/o timeout")),
		},
		"a name server that is away, by IPv6": {
			pod(waits("ErrImagePull", "read udp [fd00::1]:51994->[fd00::53]:53: i/o timeout")), pod(waits("ErrImagePull", "read udp [fd00::1]:38112->[fd00::53]:53: i/o timeout")),
		},
		"a registry that is away": {
			pod(waits("RegistryUnavailable", "image pull failed for a:1 because the registry is unavailable: x")),
			pod(waits("ImagePullBackOff", `Back-off pulling image "a:1": RegistryUnavailable: image pull failed for a:1 because the registry is unavailable: x`)),
		},
		"a server that gives no answer": {
			pod(startedBefore(time.Minute)), pod(ended(ran(5*time.Minute, 143, "Error"))), pod(ended(ran(5*time.Minute, 143, "Error")), restarted(2)),
		},
	} {
		want := Pod(pods[0], server, now)
		for i, pod := range pods {
			if got := Pod(pod, server, now); got == nil || *got != *want {
				t.Errorf("%s, %d: got %v, wanted %v", name, i, got, want)
			}
		}
	}
}

// TestTextOfOthersIsBounded verifies that long texts are truncated: the last output of a program at its beginning, a message at its end.
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

// TestLookAgain verifies the time of the next check. Some problems show only after some time without an event.
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
		"is new":                  {unseen(4 * time.Second), 6 * time.Second},
		"is scheduled by nobody":  {unseen(time.Minute), 0},
		"has a gate that is new": {pod(gated(corev1.ConditionFalse), func(pod *corev1.Pod) {
			condition(pod, corev1.ContainersReady).LastTransitionTime = metav1.NewTime(now.Add(-5 * time.Second))
		}), 15 * time.Second},
		"pulls an image for long": {pod(waits("ContainerCreating", ""), func(pod *corev1.Pod) {
			setCondition(pod, corev1.PodReadyToStartContainers, corev1.ConditionTrue, "")
		}), 20 * time.Second},
		"has an init container that runs for long": {pod(initContainer, func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodPending }), 20 * time.Second},
	} {
		if got := LookAgain(test.pod, now); got != test.want {
			t.Errorf("a pod that %s: got %s, wanted %s", name, got, test.want)
		}
	}
	scheduled := pod(waits("ContainerCreating", ""))
	condition(scheduled, corev1.PodScheduled).LastTransitionTime = metav1.NewTime(now.Add(-4 * time.Second))
	if got := LookAgain(scheduled, now); got != 6*time.Second || WaitsToStart(scheduled, now) || !WaitsToStart(scheduled, now.Add(got)) {
		t.Errorf("a pod that is being created: look again after %s", got)
	}
}

// TestWasKilled verifies that an OOM kill is reported for ten minutes, and only for a container that is ready again.
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
		`Raise spec.resources.limits.memory, or reduce the memory that the server uses`
	if finding == nil || finding.Message != want || left != 9*time.Minute {
		t.Errorf("got %v for %s, wanted %s for 9m", finding, left, want)
	}
	for name, pod := range map[string]*corev1.Pod{"serves": pod(), "was killed long ago": pod(killed(10 * time.Minute)), "is down": pod(killed(0), unready)} {
		if finding, _ := WasKilled(pod, now); finding != nil {
			t.Errorf("for a pod that %s, the finding is %v", name, finding)
		}
	}
}
