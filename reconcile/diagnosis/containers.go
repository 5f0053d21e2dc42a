package diagnosis

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func initContainersFail(pod *corev1.Pod, server Server, _ time.Time) *Finding {
	for i := range pod.Status.InitContainerStatuses {
		if finding := containerFails(pod, &pod.Status.InitContainerStatuses[i], "init container", server); finding != nil {
			return finding
		}
	}
	return nil
}

func containersFail(pod *corev1.Pod, server Server, _ time.Time) *Finding {
	for i := range pod.Status.ContainerStatuses {
		if finding := containerFails(pod, &pod.Status.ContainerStatuses[i], "container", server); finding != nil {
			return finding
		}
	}
	return nil
}

// containerFails says why a container does not run, or does not stay running.
func containerFails(pod *corev1.Pod, status *corev1.ContainerStatus, kind string, server Server) *Finding {
	name := fmt.Sprintf("%s %q", kind, status.Name)
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	waiting := status.State.Waiting
	switch {
	case waiting == nil || isOnItsWay(waiting.Reason) || waiting.Reason == "CrashLoopBackOff":
	case waiting.Reason == "RunContainerError" && hasNoProgram(ended): // how it has ended says more, and stays
	default:
		return cannotStart(name, status.Name == server.Container, waiting)
	}
	if ended == nil && waiting != nil && waiting.Reason == "CrashLoopBackOff" {
		return &Finding{CrashLoopBackOff, fmt.Sprintf("%s ends again and again (CrashLoopBackOff): %s", name, quote(waiting.Message))}
	}
	// One that is ready again has recovered, and an init container that has ended well is done. What ended because its pod is
	// being deleted has not failed.
	if ended == nil || status.Ready || !pod.DeletionTimestamp.IsZero() || (kind == "init container" && ended.ExitCode == 0) {
		return nil
	}
	if ended.Reason == "OOMKilled" {
		return &Finding{OOMKilled, fmt.Sprintf("%s was killed because it used more memory than %s. Raise spec.resources.limits.memory, or let the server use less",
			name, memoryLimit(status))}
	}
	if status.State.Running != nil && status.RestartCount < 2 {
		return nil // it has ended once, such as with its node, and may be well now
	}
	if wasGivenUp(status, ended, server) {
		return notAnswering(status, server)
	}
	return hasEnded(pod, name, status, ended, server)
}

// hasNoProgram reports whether a container has ended because its program could not be started. The kubelet then alternates between
// RunContainerError, at each try, and CrashLoopBackOff; the end of the container reads the same all the while.
func hasNoProgram(ended *corev1.ContainerStateTerminated) bool {
	return ended != nil && (ended.Reason == "StartError" || ended.Reason == "ContainerCannotRun")
}

// cannotStart says why the kubelet does not start a container.
func cannotStart(name string, isServer bool, waiting *corev1.ContainerStateWaiting) *Finding {
	image := "its image in spec.podTemplateSpec"
	if isServer {
		image = "spec.image"
	}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s cannot be pulled (ImagePullBackOff): %s. Check %s, and that spec.imagePullSecrets "+
			"names a Secret that may pull it. The kubelet goes on trying", name, quote(pullError(waiting.Message)), image)}
	case "ErrImageNeverPull":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s may not be pulled (ErrImageNeverPull): %s. Load it on the node, or set imagePullPolicy to another "+
			"value than Never", name, quote(waiting.Message))}
	case "InvalidImageName", "ImageInspectError":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s cannot be used (%s): %s. Correct %s", name, waiting.Reason, quote(waiting.Message), image)}
	case "CreateContainerConfigError":
		return cannotBeConfigured(name, waiting.Message)
	default: // CreateContainerError, RunContainerError, PostStartHookError and the like
		return &Finding{ContainerInvalid, fmt.Sprintf("%s cannot be started (%s): %s. Check spec.command, spec.args and spec.podTemplateSpec",
			name, quote(waiting.Reason), quote(waiting.Message))}
	}
}

// pullError is what went wrong at the last pull. The kubelet alternates between a pull, whose message is the error, and a back-off,
// whose message has words of its own before that same error. Without them the status does not change at each try.
func pullError(message string) string {
	if !strings.HasPrefix(message, "Back-off pulling image ") {
		return message
	}
	for _, reason := range []string{"ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed"} {
		if _, pull, found := strings.Cut(message, ": "+reason+": "); found {
			return pull
		}
	}
	return message
}

// cannotBeConfigured says what of its template keeps a container from being created. The kubelet tells the cases apart by
// nothing but its message.
func cannotBeConfigured(name, message string) *Finding {
	switch {
	case strings.Contains(message, "runAsNonRoot and image will run as root"),
		strings.Contains(message, "runAsUser breaks non-root policy"):
		return &Finding{RootRefused, fmt.Sprintf("%s would run as root, which runAsNonRoot in its template refuses. Set securityContext.runAsUser in "+
			"spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root", name)}
	case strings.Contains(message, "runAsNonRoot and image has non-numeric user"):
		return &Finding{RootRefused, fmt.Sprintf("the image of %s names its user by a name, of which the kubelet cannot tell that it is not root, as runAsNonRoot "+
			"in the template demands. Set securityContext.runAsUser in spec.podTemplateSpec to the number of that user", name)}
	case strings.Contains(message, "not found"), strings.Contains(message, "couldn't find key"):
		return &Finding{ReferenceMissing, fmt.Sprintf("%s refers to what does not exist: %s. Create it, or correct env, envFrom and secrets of the spec. "+
			"The kubelet goes on trying", name, quote(message))}
	default:
		return &Finding{ContainerInvalid, fmt.Sprintf("%s cannot be created: %s", name, quote(message))}
	}
}

// hasEnded says how a container ended that should run. It says the same while the kubelet waits, starts the container again,
// and sees it end again, so that the status does not change at each try.
func hasEnded(pod *corev1.Pod, name string, status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, server Server) *Finding {
	message := fmt.Sprintf("%s ends again and again, with exit code %d", name, ended.ExitCode)
	if said := quoteEnd(ended.Message); said != "" {
		message += ": " + said
	}
	switch {
	case hasNoProgram(ended) || ended.ExitCode == 127:
		message += ". Its command may be missing in the image: check spec.command and spec.args"
	case ended.ExitCode == 0 && status.Name == server.Container:
		message += ". A server has to go on running. One that speaks over its standard input ends when there is no client: check spec.transport and spec.args"
	case ended.ExitCode == 137 || ended.ExitCode == 143: // SIGKILL, SIGTERM
		message += ". A signal ended it. The kubelet sends one when a liveness or startup probe in the template fails: " + describe(pod)
	default:
		message += ". Its log says more: " + logs(pod, status.Name) + " --previous"
	}
	return &Finding{CrashLoopBackOff, message + ". The kubelet restarts it, less and less often (CrashLoopBackOff: a back-off of up to 5 minutes)"}
}

func describe(pod *corev1.Pod) string {
	return fmt.Sprintf("kubectl -n %s describe pod %s", pod.Namespace, pod.Name)
}

func logs(pod *corev1.Pod, container string) string {
	return fmt.Sprintf("kubectl -n %s logs %s -c %s", pod.Namespace, pod.Name, container)
}

// probeSlack is how far from its time the kubelet may end a container whose startup probe fails: it begins to probe at some instant
// of the first period, and counts periods.
const probeSlack = 10 * time.Second

// wasGivenUp reports whether the kubelet has most likely ended the server because its startup probe never got an answer. No status
// says that; but the server had run for just that long, and did as it was told.
func wasGivenUp(status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, server Server) bool {
	if status.Name != server.Container || server.Startup == 0 || ended.StartedAt.IsZero() {
		return false
	}
	ran := ended.FinishedAt.Sub(ended.StartedAt.Time)
	return ran >= server.Startup-probeSlack && ran <= server.Startup+server.Grace+probeSlack &&
		(ended.ExitCode == 0 || ended.ExitCode == 137 || ended.ExitCode == 143)
}

// memoryLimit is the limit that a container runs with, which may differ from its template after a resize in place.
func memoryLimit(status *corev1.ContainerStatus) string {
	if status.Resources != nil {
		if limit, found := status.Resources.Limits[corev1.ResourceMemory]; found {
			return fmt.Sprintf("its limit of %s", &limit)
		}
	}
	return "its node had to give"
}

// doesNotAnswer finds a container that runs, and has not become ready in all the time that it should need.
func doesNotAnswer(pod *corev1.Pod, server Server, now time.Time) *Finding {
	deadline := answerDeadline(pod)
	if deadline.IsZero() || now.Before(deadline) {
		return nil
	}
	for i := range pod.Status.ContainerStatuses {
		status := &pod.Status.ContainerStatuses[i]
		switch {
		case status.Ready || status.State.Running == nil:
		case status.Name != server.Container:
			return probeFails(pod, "container", status.Name)
		case ptr.Deref(status.Started, false):
			return &Finding{NotAnswering, fmt.Sprintf("container %q runs, has started, and its readiness probe gets no answer now. Its log may say why: %s",
				status.Name, logs(pod, status.Name))}
		default:
			return notAnswering(status, server)
		}
	}
	// An init container that runs beside the others is a sidecar.
	for _, status := range pod.Status.InitContainerStatuses {
		if !status.Ready && status.State.Running != nil {
			return probeFails(pod, "sidecar container", status.Name)
		}
	}
	return nil
}

func probeFails(pod *corev1.Pod, kind, name string) *Finding {
	return &Finding{NotAnswering, fmt.Sprintf("%s %q runs, and its readiness probe fails. Its log may say why: %s", kind, name, logs(pod, name))}
}

// notAnswering says the same of a server that has not answered yet and of one that the kubelet has restarted for that, so that the
// status does not change when it does.
func notAnswering(status *corev1.ContainerStatus, server Server) *Finding {
	message := fmt.Sprintf("container %q gives no answer on port %d. The server may still be starting. It may listen on 127.0.0.1 only, where no probe and no "+
		"client reaches it: let it listen on the address in MCP_HOST, or in FASTMCP_HOST. It may listen on another port: set spec.mcpPort", status.Name, server.Port)
	if server.Startup > 0 {
		message += fmt.Sprintf(". The kubelet restarts it when it has not answered for %s", server.Startup)
	}
	return &Finding{NotAnswering, message}
}

// answerDeadline is when a pod of which all containers run has to be ready; zero for other pods.
func answerDeadline(pod *corev1.Pod) time.Time {
	if !pod.DeletionTimestamp.IsZero() || len(pod.Status.ContainerStatuses) == 0 || isTrue(pod, corev1.ContainersReady) {
		return time.Time{}
	}
	var last time.Time
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Running == nil {
			return time.Time{}
		}
		if started := status.State.Running.StartedAt.Time; started.After(last) {
			last = started
		}
	}
	return last.Add(answerWithin)
}

// killedWithin is for how long it is told that a container which runs again was killed for its use of memory.
const killedWithin = 10 * time.Minute

// WasKilled says that a container of a pod that works was killed for its use of memory a while ago, and for how long that is
// still told; nil when none was.
func WasKilled(pod *corev1.Pod, now time.Time) (finding *Finding, left time.Duration) {
	for i := range pod.Status.ContainerStatuses {
		status := &pod.Status.ContainerStatuses[i]
		ended := status.LastTerminationState.Terminated
		if ended == nil || ended.Reason != "OOMKilled" || !status.Ready {
			continue
		}
		if left := ended.FinishedAt.Add(killedWithin).Sub(now); left > 0 {
			return &Finding{OOMKilled, fmt.Sprintf("container %q was killed at %s because it used more memory than %s, and runs again. "+
				"Raise spec.resources.limits.memory, or let the server use less",
				status.Name, ended.FinishedAt.UTC().Format(time.RFC3339), memoryLimit(status))}, left
		}
	}
	return nil, 0
}
