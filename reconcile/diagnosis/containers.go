package diagnosis

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "CrashLoopBackOff" && !isOnItsWay(waiting.Reason) {
		return cannotStart(name, waiting)
	}
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	if waiting := status.State.Waiting; ended == nil && waiting != nil && waiting.Reason == "CrashLoopBackOff" {
		return &Finding{CrashLoopBackOff, fmt.Sprintf("%s ends again and again (CrashLoopBackOff): %s", name, quote(waiting.Message))}
	}
	// One that is ready again has recovered, and an init container that has ended well is done. What ended because its pod is
	// being deleted has not failed.
	if ended == nil || status.Ready || !pod.DeletionTimestamp.IsZero() || (kind == "init container" && ended.ExitCode == 0) {
		return nil
	}
	return hasEnded(name, status, ended, server)
}

// cannotStart says why the kubelet does not start a container.
func cannotStart(name string, waiting *corev1.ContainerStateWaiting) *Finding {
	said := quote(waiting.Message)
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return &Finding{ImagePullFailed, fmt.Sprintf("the image of %s cannot be pulled (%s): %s. Check spec.image, and that spec.imagePullSecrets "+
			"names a Secret that may pull it. The kubelet goes on trying", name, waiting.Reason, said)}
	case "CreateContainerConfigError":
		return cannotBeConfigured(name, waiting.Message)
	default: // CreateContainerError, RunContainerError, CreatePodSandboxError and the like
		return &Finding{ContainerInvalid, fmt.Sprintf("%s cannot be started (%s): %s. Check spec.command, spec.args and spec.podTemplateSpec",
			name, quote(waiting.Reason), said)}
	}
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
func hasEnded(name string, status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, server Server) *Finding {
	if ended.Reason == "OOMKilled" {
		return &Finding{OOMKilled, fmt.Sprintf("%s was killed because it used more memory than %s. Raise spec.resources.limits.memory, or let the server use less",
			name, memoryLimit(status))}
	}
	message := fmt.Sprintf("%s ends again and again, with exit code %d", name, ended.ExitCode)
	if said := quoteEnd(ended.Message); said != "" {
		message += ": " + said
	}
	switch {
	case ended.Reason == "StartError" || ended.Reason == "ContainerCannotRun" || ended.ExitCode == 127:
		message += ". Its command may be missing in the image: check spec.command and spec.args"
	case ended.ExitCode == 0 && status.Name == server.Container:
		message += ". A server has to go on running. One that speaks over its standard input ends when there is no client: check spec.transport and spec.args"
	default:
		message += ". Its log says more: kubectl logs --previous"
	}
	return &Finding{CrashLoopBackOff, message + ". The kubelet restarts it, less and less often (CrashLoopBackOff: a back-off of up to 5 minutes)"}
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
	for _, status := range pod.Status.ContainerStatuses {
		switch {
		case status.Ready || status.State.Running == nil:
		case status.Name == server.Container:
			return &Finding{NotAnswering, fmt.Sprintf("container %q runs, and its probe gets no answer on port %d. The server may still be starting. It may listen on "+
				"127.0.0.1 only, where no probe and no client reaches it: let it listen on the address in MCP_HOST. It may listen on another port: set spec.mcpPort",
				status.Name, server.Port)}
		default:
			return &Finding{NotAnswering, fmt.Sprintf("container %q runs, and its readiness probe fails", status.Name)}
		}
	}
	return nil
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
