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

// containerFails returns why a container does not run or does not keep running.
func containerFails(pod *corev1.Pod, status *corev1.ContainerStatus, kind string, server Server) *Finding {
	name := fmt.Sprintf("%s %q", kind, status.Name)
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	waiting := status.State.Waiting
	switch {
	case waiting == nil || isOnItsWay(waiting.Reason) || waiting.Reason == "CrashLoopBackOff":
	case waiting.Reason == "RunContainerError" && hasNoProgram(ended): // the termination state has more detail and does not change between retries
	default:
		return cannotStart(name, status.Name == server.Container, waiting)
	}
	if ended == nil && waiting != nil && waiting.Reason == "CrashLoopBackOff" {
		return &Finding{CrashLoopBackOff, fmt.Sprintf("%s exits repeatedly (CrashLoopBackOff): %s", name, quote(waiting.Message))}
	}
	// A container that is ready again has recovered. An init container with exit code 0 is done. A container that ended because its pod is
	// being deleted has not failed.
	if ended == nil || status.Ready || !pod.DeletionTimestamp.IsZero() || (kind == "init container" && ended.ExitCode == 0) {
		return nil
	}
	if ended.Reason == "OOMKilled" {
		return &Finding{OOMKilled, fmt.Sprintf("%s was killed because it used more memory than %s. Raise spec.resources.limits.memory, or reduce the memory that the server uses",
			name, memoryLimit(status))}
	}
	if status.State.Running != nil && status.RestartCount < 2 {
		return nil // a single restart, such as with its node, is not a problem yet
	}
	if wasGivenUp(status, ended, server) {
		return notAnswering(status, server)
	}
	return hasEnded(pod, name, status, ended, server)
}

// hasNoProgram reports whether a container ended because its program could not be started. The kubelet then alternates between
// RunContainerError and CrashLoopBackOff. The termination state is the same in both.
func hasNoProgram(ended *corev1.ContainerStateTerminated) bool {
	return ended != nil && (ended.Reason == "StartError" || ended.Reason == "ContainerCannotRun")
}

// cannotStart returns why the kubelet does not start a container.
func cannotStart(name string, isServer bool, waiting *corev1.ContainerStateWaiting) *Finding {
	image := "its image in spec.podTemplateSpec"
	if isServer {
		image = "spec.image"
	}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s cannot be pulled (ImagePullBackOff): %s. The kubelet retries. Check %s, and that "+
			"spec.imagePullSecrets names a Secret with access to the image", name, quote(pullError(waiting.Message)), image)}
	case "ErrImageNeverPull":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s must not be pulled (ErrImageNeverPull): %s. Load the image on the node, or set imagePullPolicy to "+
			"a value other than Never", name, quote(waiting.Message))}
	case "InvalidImageName", "ImageInspectError":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s cannot be used (%s): %s. Correct %s", name, waiting.Reason, quote(waiting.Message), image)}
	case "CreateContainerConfigError":
		return cannotBeConfigured(name, waiting.Message)
	default: // CreateContainerError, RunContainerError, PostStartHookError and the like
		return &Finding{ContainerInvalid, fmt.Sprintf("%s cannot be started (%s): %s. Check spec.command, spec.args and spec.podTemplateSpec",
			name, quote(waiting.Reason), quote(waiting.Message))}
	}
}

// pullError returns the error of the last pull. The kubelet alternates between a pull, whose message is the error, and a back-off, whose
// message is a prefix and the same error. pullError removes the prefix, so that the status does not change at each retry.
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

// cannotBeConfigured returns which part of the template prevents a container from being created. Only the message of the kubelet
// distinguishes the cases.
func cannotBeConfigured(name, message string) *Finding {
	switch {
	case strings.Contains(message, "runAsNonRoot and image will run as root"),
		strings.Contains(message, "runAsUser breaks non-root policy"):
		return &Finding{RootRefused, fmt.Sprintf("%s would run as root, but runAsNonRoot in its template does not allow root. Set securityContext.runAsUser in "+
			"spec.podTemplateSpec to a user other than 0, or set runAsNonRoot: false to let it run as root", name)}
	case strings.Contains(message, "runAsNonRoot and image has non-numeric user"):
		return &Finding{RootRefused, fmt.Sprintf("the image of %s sets its user by name. The template sets runAsNonRoot, and the kubelet cannot verify that a named "+
			"user is not root. Set securityContext.runAsUser in spec.podTemplateSpec to the numeric ID of the user", name)}
	case strings.Contains(message, "not found"), strings.Contains(message, "couldn't find key"):
		return &Finding{ReferenceMissing, fmt.Sprintf("%s refers to an object or a key that does not exist: %s. The kubelet retries. Create it, or correct "+
			"env, envFrom and secrets of the spec", name, quote(message))}
	default:
		return &Finding{ContainerInvalid, fmt.Sprintf("%s cannot be created: %s", name, quote(message))}
	}
}

// hasEnded returns how a container ended that should run. The message is the same while the kubelet waits, restarts the container
// and the container ends again, so that the status does not change at each retry.
func hasEnded(pod *corev1.Pod, name string, status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, server Server) *Finding {
	message := fmt.Sprintf("%s exits repeatedly with exit code %d", name, ended.ExitCode)
	if said := quoteEnd(ended.Message); said != "" {
		message += ": " + said
	}
	switch {
	case hasNoProgram(ended) || ended.ExitCode == 127:
		message += ". Its command may be missing in the image: check spec.command and spec.args"
	case ended.ExitCode == 0 && status.Name == server.Container:
		message += ". A server must keep running. A server on standard input exits when no client is connected: check spec.transport and spec.args"
	case ended.ExitCode == 137 || ended.ExitCode == 143: // SIGKILL, SIGTERM
		message += ". A signal ended the container. The kubelet sends a signal when a liveness or startup probe in the template fails. Run: " + describe(pod)
	default:
		message += ". To see its log, run: " + logs(pod, status.Name) + " --previous"
	}
	return &Finding{CrashLoopBackOff, message + ". The kubelet restarts it with an increasing delay of up to 5 minutes (CrashLoopBackOff)"}
}

func describe(pod *corev1.Pod) string {
	return fmt.Sprintf("kubectl -n %s describe pod %s", pod.Namespace, pod.Name)
}

func logs(pod *corev1.Pod, container string) string {
	return fmt.Sprintf("kubectl -n %s logs %s -c %s", pod.Namespace, pod.Name, container)
}

// probeSlack is the tolerance for the time at which the kubelet ends a container whose startup probe fails. The kubelet starts to probe
// at a random time within the first period, and counts periods.
const probeSlack = 10 * time.Second

// wasGivenUp reports whether the kubelet most likely ended the server because its startup probe never succeeded. No status records
// this. The sign is that the server ran for the time of the startup probe and ended with the exit code of a signal, or with 0.
func wasGivenUp(status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, server Server) bool {
	if status.Name != server.Container || server.Startup == 0 || ended.StartedAt.IsZero() {
		return false
	}
	ran := ended.FinishedAt.Sub(ended.StartedAt.Time)
	return ran >= server.Startup-probeSlack && ran <= server.Startup+server.Grace+probeSlack &&
		(ended.ExitCode == 0 || ended.ExitCode == 137 || ended.ExitCode == 143)
}

// memoryLimit returns the limit that a container runs with. After an in-place resize it may differ from the limit in the template.
func memoryLimit(status *corev1.ContainerStatus) string {
	if status.Resources != nil {
		if limit, found := status.Resources.Limits[corev1.ResourceMemory]; found {
			return fmt.Sprintf("its limit of %s", &limit)
		}
	}
	return "its node had available"
}

// doesNotAnswer finds a running container that has not become ready in time.
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
		case ptr.Deref(status.Started, false) && !server.IsStdio: // without a startup probe, Started says only that it runs
			return &Finding{NotAnswering, fmt.Sprintf("container %q has started, but its readiness probe fails now. To see its log, run: %s",
				status.Name, logs(pod, status.Name))}
		default:
			return notAnswering(status, server)
		}
	}
	// An init container that keeps running is a sidecar.
	for _, status := range pod.Status.InitContainerStatuses {
		if !status.Ready && status.State.Running != nil {
			return probeFails(pod, "sidecar container", status.Name)
		}
	}
	return nil
}

func probeFails(pod *corev1.Pod, kind, name string) *Finding {
	return &Finding{NotAnswering, fmt.Sprintf("%s %q runs, but its readiness probe fails. To see its log, run: %s", kind, name, logs(pod, name))}
}

// notAnswering returns the same message for a server that has not answered yet and for a server that the kubelet restarted for this
// reason, so that the status does not change at a restart.
func notAnswering(status *corev1.ContainerStatus, server Server) *Finding {
	if server.IsStdio {
		return &Finding{NotAnswering, fmt.Sprintf("nothing answers on port %d of the pod. The transport of the server is stdio, and the operator adds nothing that serves "+
			"it to clients. Use an image that serves the server over HTTP on this port, or add a container that does to spec.podTemplateSpec. If the server itself "+
			"speaks HTTP, set spec.transport to streamable-http or sse", server.Port)}
	}
	message := fmt.Sprintf("container %q does not answer on port %d. The server may still be starting. If the server listens only on 127.0.0.1, probes and "+
		"clients cannot reach it: configure it to listen on the address in MCP_HOST or FASTMCP_HOST. If it listens on another port, set spec.mcpPort", status.Name, server.Port)
	if server.Startup > 0 {
		message += fmt.Sprintf(". The kubelet restarts the container if it does not answer within %s", server.Startup)
	}
	return &Finding{NotAnswering, message}
}

// answerDeadline returns when a pod must be ready if all its containers run; zero for other pods.
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

// killedWithin is how long the status reports that a container was killed for its memory use after the container runs again.
const killedWithin = 10 * time.Minute

// WasKilled returns a finding if a container of a working pod was killed for its memory use within killedWithin, and how long the finding
// still applies. The finding is nil if no container was killed.
func WasKilled(pod *corev1.Pod, now time.Time) (finding *Finding, left time.Duration) {
	for i := range pod.Status.ContainerStatuses {
		status := &pod.Status.ContainerStatuses[i]
		ended := status.LastTerminationState.Terminated
		if ended == nil || ended.Reason != "OOMKilled" || !status.Ready {
			continue
		}
		if left := ended.FinishedAt.Add(killedWithin).Sub(now); left > 0 {
			return &Finding{OOMKilled, fmt.Sprintf("container %q was killed at %s because it used more memory than %s, and runs again. "+
				"Raise spec.resources.limits.memory, or reduce the memory that the server uses",
				status.Name, ended.FinishedAt.UTC().Format(time.RFC3339), memoryLimit(status))}, left
		}
	}
	return nil, 0
}
