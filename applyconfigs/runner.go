package applyconfigs

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// RunnerName is the name of the container that runs the runner in front of an HTTP server, and of the init container and the volume that bring it
// into the container of a stdio server.
const RunnerName = "runner"

// RunnerPath is the runner in its image.
const RunnerPath = "/mcp-runner"

// runnerDirectory is where the runner is in the container of a stdio server.
const runnerDirectory = "/runner"

// Ports of the runner. ManagementPort has the metrics, and answers the kubelet and the other pods. fallbackPort receives requests if the server
// itself listens on the port to which clients connect.
const (
	ManagementPort     = 9464
	managementPortName = "runner"
	fallbackPort       = 9463
	serverPortName     = "server"
)

// podNameVariable is an environment variable from which the runner reads the name of its pod.
const podNameVariable = "MCP_RUNNER_POD"

// HasRunner reports whether the pods of an MCPServer get a runner.
func HasRunner(server *v1beta1.MCPServer, cluster Cluster) bool {
	isDirect := server.Spec.Sessions != nil && server.Spec.Sessions.Mode == v1beta1.SessionsDirect
	return cluster.RunnerImage != "" && !isDirect
}

// IsRouted reports whether the pods of a StatefulSet have a runner. During the upgrade of an operator that adds it, they have none yet.
func IsRouted(set *appsv1.StatefulSet) bool { return runnerOf(set) != nil }

// RunnerImageOf returns the image of the runner in the pod template of a StatefulSet; empty if it has none.
func RunnerImageOf(set *appsv1.StatefulSet) string {
	if runner := runnerOf(set); runner != nil {
		return runner.Image
	}
	return ""
}

// runnerOf returns the container of a pod template that has the runner, or brings it; nil if there is none.
func runnerOf(set *appsv1.StatefulSet) *corev1.Container {
	for _, containers := range [][]corev1.Container{set.Spec.Template.Spec.InitContainers, set.Spec.Template.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == RunnerName {
				return &containers[i]
			}
		}
	}
	return nil
}

// ErrCommandUnknown is the error of StatefulSet for a stdio server whose MCPServer does not say what to run.
var ErrCommandUnknown = errors.New("the command of the server is unknown")

// listenPort returns the port on which the pods receive requests of clients.
func listenPort(server *v1beta1.MCPServer, cluster Cluster) int32 {
	port := ContainerPort(server)
	if !HasRunner(server, cluster) || Transport(server) == v1beta1.TransportStdio {
		return port // the container mcp listens; a stdio server itself does not
	}
	if client := ProxyPort(server); client != port && client >= 1024 {
		return client
	}
	if port == fallbackPort {
		return fallbackPort - 1
	}
	return fallbackPort
}

// runnerFlags returns the flags of the runner.
func runnerFlags(server *v1beta1.MCPServer, cluster Cluster) []string {
	flags := []string{
		"--listen=" + net.JoinHostPort(listenAddress(server, cluster), strconv.Itoa(int(listenPort(server, cluster)))),
		"--management=" + net.JoinHostPort(listenAddress(server, cluster), strconv.Itoa(ManagementPort)),
		"--pod=$(" + podNameVariable + ")",
		"--service=" + HeadlessServiceName(server.Name),
	}
	sessions := ptr.Deref(server.Spec.Sessions, v1beta1.Sessions{})
	if sessions.OnPodLoss != "" {
		flags = append(flags, "--on-pod-loss="+string(sessions.OnPodLoss))
	}
	if sessions.IdleTimeout != nil {
		flags = append(flags, "--idle-timeout="+sessions.IdleTimeout.Duration.Round(time.Second).String())
	}
	if sessions.MaxPerPod != nil {
		flags = append(flags, "--max-sessions="+strconv.Itoa(int(*sessions.MaxPerPod)))
	}
	flags = append(flags, auditFlags(server.Spec.Audit)...)
	if Transport(server) == v1beta1.TransportStdio {
		if server.Spec.ProxyMode == v1beta1.ProxyModeSSE {
			flags = append(flags, "--sse")
		}
		return flags
	}
	address := "127.0.0.1"
	if listenAddress(server, cluster) == "::" {
		address = "::1"
	}
	upstream := "--upstream=http://" + net.JoinHostPort(address, strconv.Itoa(int(ContainerPort(server))))
	if Transport(server) == v1beta1.TransportSSE {
		return append(flags, "--sse", upstream+"/sse")
	}
	return append(flags, upstream+"/mcp")
}

// auditFlags returns the flags of the runner for its log of requests.
func auditFlags(audit *v1beta1.Audit) []string {
	if audit == nil || !audit.Enabled {
		return nil
	}
	flags := []string{"--audit"}
	if audit.IncludeArguments {
		flags = append(flags, "--audit-arguments")
	}
	if audit.IncludeResults {
		flags = append(flags, "--audit-results")
	}
	return flags
}

// withRunner adds what a runner needs to the operator's pod template, before the user's template is merged.
func withRunner(pod *corev1ac.PodSpecApplyConfiguration, server *v1beta1.MCPServer, cluster Cluster) error {
	base := corev1ac.Container().WithName(RunnerName).WithImage(cluster.RunnerImage).WithSecurityContext(runnerSecurity(cluster))
	if Transport(server) == v1beta1.TransportStdio {
		pod.WithVolumes(corev1ac.Volume().WithName(RunnerName).WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(apiresource.MustParse("64Mi")))).
			WithInitContainers(base.WithCommand(RunnerPath, "copy", runnerDirectory).
				WithVolumeMounts(corev1ac.VolumeMount().WithName(RunnerName).WithMountPath(runnerDirectory)).
				WithResources(runnerResources()))
		return nil
	}
	resources := runnerResources()
	if sessions := server.Spec.Sessions; sessions != nil && sessions.Resources != nil {
		var err error
		if resources, err = configurationOf[corev1ac.ResourceRequirementsApplyConfiguration](sessions.Resources); err != nil {
			return fmt.Errorf("reading spec.sessions.resources: %w", err)
		}
	}
	pod.WithContainers(base.WithCommand(append([]string{RunnerPath}, runnerFlags(server, cluster)...)...).
		WithEnv(podNameEnv()).
		WithPorts(tcpPort(PortName, listenPort(server, cluster)), tcpPort(managementPortName, ManagementPort)).
		WithReadinessProbe(readyProbe()).
		WithResources(resources))
	return nil
}

// wrapCommand puts the runner in front of the command of a stdio server, after the user's template was merged.
func wrapCommand(
	pod *corev1ac.PodSpecApplyConfiguration, server *v1beta1.MCPServer, cluster Cluster, image *v1beta1.ImageStatus,
) error {
	for i := range pod.Containers {
		c := &pod.Containers[i]
		if *c.Name != ContainerName {
			continue
		}
		command := append(slices.Clone(c.Command), c.Args...)
		if len(c.Command) == 0 {
			if image == nil || image.Reference != ptr.Deref(c.Image, "") {
				return ErrCommandUnknown
			}
			if command = imageCommand(image, c.Args); len(command) == 0 {
				return ErrCommandUnknown
			}
		}
		c.Command, c.Args = nil, nil
		c.WithCommand(runnerDirectory + RunnerPath).WithCommand(runnerFlags(server, cluster)...).WithCommand(commandSeparator).WithCommand(command...)
	}
	return nil
}

func podNameEnv() *corev1ac.EnvVarApplyConfiguration {
	return corev1ac.EnvVar().WithName(podNameVariable).WithValueFrom(corev1ac.EnvVarSource().
		WithFieldRef(corev1ac.ObjectFieldSelector().WithFieldPath("metadata.name")))
}

func tcpPort(name string, number int32) *corev1ac.ContainerPortApplyConfiguration {
	return corev1ac.ContainerPort().WithName(name).WithContainerPort(number).WithProtocol(corev1.ProtocolTCP)
}

// readyPeriodSeconds is short, because a rollout waits for each pod, and the runner answers without asking the server.
const readyPeriodSeconds = 2

// readyProbe asks the runner whether the server behind it answers.
func readyProbe() *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().WithHTTPGet(corev1ac.HTTPGetAction().WithPath("/readyz").WithPort(intstr.FromString(managementPortName))).
		WithPeriodSeconds(readyPeriodSeconds)
}

// runnerSecurity meets the restricted Pod Security Standard, whatever user the user's template sets for the pod.
func runnerSecurity(cluster Cluster) *corev1ac.SecurityContextApplyConfiguration {
	security := corev1ac.SecurityContext().
		WithAllowPrivilegeEscalation(false).
		WithReadOnlyRootFilesystem(true).
		WithRunAsNonRoot(true).
		WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))
	if !cluster.AssignsUsers {
		security.WithRunAsUser(defaultUser)
	}
	return security
}

func runnerResources() *corev1ac.ResourceRequirementsApplyConfiguration {
	return corev1ac.ResourceRequirements().WithRequests(corev1.ResourceList{
		corev1.ResourceCPU: apiresource.MustParse("10m"), corev1.ResourceMemory: apiresource.MustParse("32Mi"),
	})
}
