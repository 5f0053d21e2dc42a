package applyconfigs

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"mcpserver-operator/crd/v1beta1"
)

// ContainerName is the name of the container that runs the server.
const ContainerName = "mcp"

// PortName is the name of the container port. Services and probes refer to the port by name, so that they do not change with its number.
const PortName = "mcp"

// A server has five minutes to start: 150 probes, one every 2 seconds. Some servers install themselves first.
const (
	startupPeriodSeconds = 2
	startupFailures      = 150
)

// podTemplate returns the operator's pod template, merged with the user's. The operator's template meets the restricted Pod
// Security Standard.
func podTemplate(
	server *v1beta1.MCPServer, fixed Fixed, cluster Cluster, image *v1beta1.ImageStatus,
) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	container, err := container(server, cluster)
	if err != nil {
		return nil, err
	}
	security := corev1ac.PodSecurityContext().
		WithRunAsNonRoot(true).
		WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))
	if !cluster.AssignsUsers {
		security.WithRunAsUser(defaultUser).WithRunAsGroup(defaultUser).WithFSGroup(defaultUser)
	}
	pod := corev1ac.PodSpec().
		WithServiceAccountName(serviceAccountName(server)).
		WithSecurityContext(security).
		WithContainers(container)
	if WantsServiceAccount(server) {
		// The server is not a client of Kubernetes. It cannot leak a token that it does not have.
		pod.WithAutomountServiceAccountToken(false)
	}
	pod.TerminationGracePeriodSeconds = server.Spec.TerminationGracePeriodSeconds
	for _, secret := range server.Spec.ImagePullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(secret.Name))
	}
	for i := range server.Spec.Volumes {
		volume, err := volume(&server.Spec.Volumes[i])
		if err != nil {
			return nil, err
		}
		pod.WithVolumes(volume)
	}
	constraints, err := topologySpread(server, fixed)
	if err != nil {
		return nil, err
	}
	pod.WithTopologySpreadConstraints(constraints...)
	if HasRunner(server, cluster) {
		if err := withRunner(pod, server, cluster); err != nil {
			return nil, err
		}
	}

	template := corev1ac.PodTemplateSpec().WithLabels(labels(server.Name)).WithSpec(pod)
	if at := RestartedAt(server, fixed); at != "" {
		template.WithAnnotations(map[string]string{v1beta1.RestartedAtAnnotation: at})
	}
	if server.Spec.PodTemplateSpec != nil {
		if template, err = mergePodTemplate(template, server.Spec.PodTemplateSpec.Raw); err != nil {
			return nil, fmt.Errorf("spec.podTemplateSpec cannot be merged: %w", err)
		}
	}
	// Services and probes find the port by its name.
	for i := range template.Spec.Containers {
		if *template.Spec.Containers[i].Name == ContainerName {
			namePort(template.Spec.Containers[i].Ports, ContainerPort(server), containerPortName(server, cluster))
		}
	}
	if HasRunner(server, cluster) && Transport(server) == v1beta1.TransportStdio {
		if err := wrapCommand(template.Spec, server, cluster, image); err != nil {
			return nil, err
		}
	}
	// After the merge: the API server refuses a template whose labels do not match the selector.
	template.WithLabels(fixed.PodLabels)
	claimDefaults(template.Spec)
	return template, nil
}

func container(server *v1beta1.MCPServer, cluster Cluster) (*corev1ac.ContainerApplyConfiguration, error) {
	c := corev1ac.Container().
		WithName(ContainerName).
		WithImage(server.Spec.Image).
		WithCommand(server.Spec.Command...).
		WithArgs(server.Spec.Args...).
		WithPorts(tcpPort(containerPortName(server, cluster), ContainerPort(server))).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
	if server.Spec.ImagePullPolicy != "" {
		c.WithImagePullPolicy(server.Spec.ImagePullPolicy)
	}
	variables, err := environment(server, cluster)
	if err != nil {
		return nil, err
	}
	c.WithEnv(variables...)
	for i := range server.Spec.EnvFrom {
		source, err := configurationOf[corev1ac.EnvFromSourceApplyConfiguration](server.Spec.EnvFrom[i])
		if err != nil {
			return nil, fmt.Errorf("reading spec.envFrom: %w", err)
		}
		c.WithEnvFrom(source)
	}
	if server.Spec.Resources != nil {
		resources, err := configurationOf[corev1ac.ResourceRequirementsApplyConfiguration](server.Spec.Resources)
		if err != nil {
			return nil, fmt.Errorf("reading spec.resources: %w", err)
		}
		c.WithResources(resources)
	}
	for _, volume := range server.Spec.Volumes {
		mount := corev1ac.VolumeMount().WithName(volume.Name).WithMountPath(volume.MountPath)
		if volume.ReadOnly {
			mount.WithReadOnly(true) // the API server returns false as an absent field
		}
		c.WithVolumeMounts(mount)
	}
	if HasRunner(server, cluster) {
		if Transport(server) == v1beta1.TransportStdio {
			// Kubernetes restarts the container if it exits, not if it is not ready: the runner replaces a server that ends.
			c.WithPorts(tcpPort(managementPortName, ManagementPort)).WithEnv(podNameEnv()).WithReadinessProbe(readyProbe()).
				WithVolumeMounts(corev1ac.VolumeMount().WithName(RunnerName).WithMountPath(runnerDirectory).WithReadOnly(true))
		}
		return c, nil // otherwise, the container runner is ready when the server answers, also if it listens on 127.0.0.1
	}
	if Transport(server) == v1beta1.TransportStdio {
		// A stdio server exits at the end of its input. It is ready only if something in its pod serves it to clients. It has no startup
		// probe, because the kubelet would restart a server that nothing serves.
		return c.WithStdin(true).WithReadinessProbe(tcpProbe()), nil
	}
	return c.
		WithStartupProbe(tcpProbe().WithPeriodSeconds(startupPeriodSeconds).WithFailureThreshold(startupFailures)).
		WithReadinessProbe(tcpProbe()), nil
}

// containerPortName returns the name of the port of the container mcp: PortName, unless clients connect to the container runner.
func containerPortName(server *v1beta1.MCPServer, cluster Cluster) string {
	if HasRunner(server, cluster) && Transport(server) != v1beta1.TransportStdio {
		return serverPortName
	}
	return PortName
}

// namePort restores the name of the port, because the user's template may have replaced it.
func namePort(ports []corev1ac.ContainerPortApplyConfiguration, number int32, name string) {
	for i := range ports {
		isTCP := ports[i].Protocol == nil || *ports[i].Protocol == corev1.ProtocolTCP
		if isTCP && ports[i].ContainerPort != nil && *ports[i].ContainerPort == number {
			ports[i].WithName(name)
		}
	}
}

func tcpProbe() *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().WithTCPSocket(corev1ac.TCPSocketAction().WithPort(intstr.FromString(PortName)))
}

// environment returns the operator's variables, then those of spec.secrets, then those of spec.env. Kubernetes expands a reference such as
// $(DB_PASSWORD) in a variable only if the referenced variable precedes it. A variable of the user replaces the operator's variable with the
// same name.
func environment(server *v1beta1.MCPServer, cluster Cluster) ([]*corev1ac.EnvVarApplyConfiguration, error) {
	port, address := strconv.FormatInt(int64(ContainerPort(server)), 10), listenAddress(server, cluster)
	var theirs []*corev1ac.EnvVarApplyConfiguration
	for _, secret := range server.Spec.Secrets {
		theirs = append(theirs, corev1ac.EnvVar().
			WithName(cmp.Or(secret.TargetEnvName, secret.Key)).
			WithValueFrom(corev1ac.EnvVarSource().
				WithSecretKeyRef(corev1ac.SecretKeySelector().WithName(secret.Name).WithKey(secret.Key))))
	}
	for i := range server.Spec.Env {
		variable, err := configurationOf[corev1ac.EnvVarApplyConfiguration](server.Spec.Env[i])
		if err != nil {
			return nil, fmt.Errorf("reading spec.env: %w", err)
		}
		theirs = append(theirs, variable)
	}
	replaced := make(map[string]bool, len(theirs))
	for _, variable := range theirs {
		replaced[*variable.Name] = true
	}
	var all []*corev1ac.EnvVarApplyConfiguration
	for _, own := range []*corev1ac.EnvVarApplyConfiguration{
		corev1ac.EnvVar().WithName("MCP_TRANSPORT").WithValue(string(Transport(server))),
		corev1ac.EnvVar().WithName("MCP_PORT").WithValue(port),
		corev1ac.EnvVar().WithName("FASTMCP_PORT").WithValue(port),
		corev1ac.EnvVar().WithName("MCP_HOST").WithValue(address),
		// By default, FastMCP listens on 127.0.0.1, where neither probes nor clients reach it.
		corev1ac.EnvVar().WithName("FASTMCP_HOST").WithValue(address),
	} {
		if !replaced[*own.Name] {
			all = append(all, own)
		}
	}
	return append(all, theirs...), nil
}

// volume returns a volume with its source. The schema allows exactly one source.
func volume(from *v1beta1.Volume) (*corev1ac.VolumeApplyConfiguration, error) {
	source := corev1.VolumeSource{
		PersistentVolumeClaim: from.PersistentVolumeClaim,
		ConfigMap:             from.ConfigMap,
		Secret:                from.Secret,
		EmptyDir:              from.EmptyDir,
		Projected:             from.Projected,
	}
	if from.HostPath != nil {
		source.HostPath = &corev1.HostPathVolumeSource{Path: *from.HostPath}
	}
	to, err := configurationOf[corev1ac.VolumeApplyConfiguration](corev1.Volume{Name: from.Name, VolumeSource: source})
	if err != nil {
		return nil, fmt.Errorf("reading spec.volumes %q: %w", from.Name, err)
	}
	return to, nil
}

// topologySpread returns the user's constraints. If there are none, it spreads the pods over hosts and zones if possible.
func topologySpread(
	server *v1beta1.MCPServer, fixed Fixed,
) ([]*corev1ac.TopologySpreadConstraintApplyConfiguration, error) {
	constraints := server.Spec.TopologySpreadConstraints
	if constraints == nil {
		constraints = []corev1.TopologySpreadConstraint{
			{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway},
			{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway},
		}
	}
	var all []*corev1ac.TopologySpreadConstraintApplyConfiguration
	for _, from := range constraints {
		to, err := configurationOf[corev1ac.TopologySpreadConstraintApplyConfiguration](from)
		if err != nil {
			return nil, fmt.Errorf("reading spec.topologySpreadConstraints: %w", err)
		}
		if to.LabelSelector == nil {
			to.WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(fixed.PodLabels))
		}
		all = append(all, to)
	}
	return all, nil
}

// claimDefaults sets the defaults of the API server inside atomic fields, which have one owner as a whole, and in keys of lists. The operator
// owns these defaults together with the field. Without them, each pass would find a difference.
func claimDefaults(pod *corev1ac.PodSpecApplyConfiguration) {
	for _, containers := range [][]corev1ac.ContainerApplyConfiguration{pod.InitContainers, pod.Containers} {
		for i := range containers {
			for j := range containers[i].Ports {
				if containers[i].Ports[j].Protocol == nil {
					containers[i].Ports[j].WithProtocol(corev1.ProtocolTCP) // a key of the list
				}
			}
			for j := range containers[i].Env {
				if source := containers[i].Env[j].ValueFrom; source != nil {
					claimReferenceDefaults(source.FieldRef, source.ResourceFieldRef)
				}
			}
		}
	}
	for i := range pod.Volumes {
		if source := pod.Volumes[i].DownwardAPI; source != nil {
			claimItemDefaults(source.Items)
		}
		if pod.Volumes[i].Projected == nil {
			continue
		}
		for _, source := range pod.Volumes[i].Projected.Sources {
			if source.DownwardAPI != nil {
				claimItemDefaults(source.DownwardAPI.Items)
			}
			if token := source.ServiceAccountToken; token != nil && token.ExpirationSeconds == nil {
				token.WithExpirationSeconds(3600)
			}
		}
	}
}

func claimItemDefaults(items []corev1ac.DownwardAPIVolumeFileApplyConfiguration) {
	for i := range items {
		claimReferenceDefaults(items[i].FieldRef, items[i].ResourceFieldRef)
	}
}

func claimReferenceDefaults(
	field *corev1ac.ObjectFieldSelectorApplyConfiguration, resource *corev1ac.ResourceFieldSelectorApplyConfiguration,
) {
	if field != nil && field.APIVersion == nil {
		field.WithAPIVersion("v1")
	}
	if resource != nil && resource.Divisor == nil {
		resource.WithDivisor(apiresource.MustParse("0"))
	}
}

// labelsWith returns the labels of all children and the user's labels.
func labelsWith(server string, overrides *v1beta1.MetadataOverrides) map[string]string {
	all := labels(server)
	if overrides == nil {
		return all
	}
	// The operator's labels win. The schema refuses user labels with the same keys.
	merged := maps.Clone(overrides.Labels)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, all)
	return merged
}

func annotationsOf(overrides *v1beta1.MetadataOverrides) map[string]string {
	if overrides == nil {
		return nil
	}
	return overrides.Annotations
}
