package applyconfigs

import (
	"cmp"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// ContainerName is the name of the container that runs the server.
const ContainerName = "mcp"

// portName names the container port, so that the Services need not follow a change of its number.
const portName = "mcp"

// Scale is what an apply of the StatefulSet says about its scale.
type Scale struct {
	// Replicas is the value to claim. Nil leaves replicas out of the apply: the field keeps its value and its owner,
	// provided that the operator does not own it (an apply that drops an owned field removes its value).
	Replicas *int32
	// Declared is the value of spec.replicas that is carried out with this apply, or was by an earlier one; it becomes
	// v1alpha1.DeclaredReplicasAnnotation. Nil while replicas are not declared.
	Declared *int32
}

// StatefulSet returns the apply configuration of the StatefulSet that runs an MCPServer.
func StatefulSet(server *v1alpha1.MCPServer, scale Scale) *appsv1ac.StatefulSetApplyConfiguration {
	spec := appsv1ac.StatefulSetSpec().
		WithServiceName(HeadlessServiceName(server.Name)).
		// MCP servers do not order themselves, and with OrderedReady a broken rollout is not repaired by fixing the
		// template (kubernetes/kubernetes#67250).
		WithPodManagementPolicy(appsv1.ParallelPodManagement).
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(SelectorLabels(server.Name))).
		WithTemplate(podTemplate(server))
	if scale.Replicas != nil {
		spec.WithReplicas(*scale.Replicas)
	}

	set := appsv1ac.StatefulSet(StatefulSetName(server.Name), server.Namespace).
		WithLabels(labels(server.Name)).
		WithOwnerReferences(controllerReference(server)).
		WithSpec(spec)
	if scale.Declared != nil {
		set.WithAnnotations(map[string]string{
			v1alpha1.DeclaredReplicasAnnotation: strconv.FormatInt(int64(*scale.Declared), 10),
		})
	}
	return set
}

// podTemplate meets the restricted Pod Security Standard.
func podTemplate(server *v1alpha1.MCPServer) *corev1ac.PodTemplateSpecApplyConfiguration {
	return corev1ac.PodTemplateSpec().
		WithLabels(labels(server.Name)).
		WithSpec(corev1ac.PodSpec().
			// The server is not a client of Kubernetes; a token it does not need is one it can leak.
			WithAutomountServiceAccountToken(false).
			WithSecurityContext(corev1ac.PodSecurityContext().
				WithRunAsNonRoot(true).
				WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
			WithContainers(container(server)))
}

func container(server *v1alpha1.MCPServer) *corev1ac.ContainerApplyConfiguration {
	c := corev1ac.Container().
		WithName(ContainerName).
		WithImage(server.Spec.Image).
		WithArgs(server.Spec.Args...).
		WithEnv(environment(server)...).
		WithPorts(corev1ac.ContainerPort().
			WithName(portName).
			WithContainerPort(ContainerPort(server)).
			WithProtocol(corev1.ProtocolTCP)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
	if Transport(server) == v1alpha1.TransportStdio {
		// A stdio server ends when its input does.
		c.WithStdin(true)
	}
	return c
}

// environment is the operator's variables, then the user's. A user's variable replaces the operator's of the same name.
func environment(server *v1alpha1.MCPServer) []*corev1ac.EnvVarApplyConfiguration {
	port := strconv.FormatInt(int64(ContainerPort(server)), 10)
	own := []*corev1ac.EnvVarApplyConfiguration{
		corev1ac.EnvVar().WithName("MCP_TRANSPORT").WithValue(string(Transport(server))),
		corev1ac.EnvVar().WithName("MCP_PORT").WithValue(port),
		corev1ac.EnvVar().WithName("FASTMCP_PORT").WithValue(port),
		corev1ac.EnvVar().WithName("MCP_HOST").WithValue("0.0.0.0"),
	}
	theirs := make(map[string]bool, len(server.Spec.Env))
	for _, variable := range server.Spec.Env {
		theirs[variable.Name] = true
	}
	var all []*corev1ac.EnvVarApplyConfiguration
	for _, variable := range own {
		if !theirs[*variable.Name] {
			all = append(all, variable)
		}
	}
	for i := range server.Spec.Env {
		all = append(all, envVar(&server.Spec.Env[i]))
	}
	return all
}

// envVar copies an environment variable field by field. An empty value is left out: it reads back without the key, so
// that claiming it would look like a difference at every pass.
func envVar(from *corev1.EnvVar) *corev1ac.EnvVarApplyConfiguration {
	to := corev1ac.EnvVar().WithName(from.Name)
	if from.Value != "" {
		to.WithValue(from.Value)
	}
	if from.ValueFrom != nil {
		to.WithValueFrom(envVarSource(from.ValueFrom))
	}
	return to
}

// envVarSource copies exactly the fields that are set. The references are atomic, so that their defaults are owned with
// them: what is left out here would look like a difference at every pass.
func envVarSource(from *corev1.EnvVarSource) *corev1ac.EnvVarSourceApplyConfiguration {
	to := corev1ac.EnvVarSource()
	if ref := from.FieldRef; ref != nil {
		to.WithFieldRef(corev1ac.ObjectFieldSelector().
			WithAPIVersion(cmp.Or(ref.APIVersion, "v1")).
			WithFieldPath(ref.FieldPath))
	}
	if ref := from.ResourceFieldRef; ref != nil {
		selector := corev1ac.ResourceFieldSelector().WithResource(ref.Resource).WithDivisor(ref.Divisor)
		if ref.ContainerName != "" {
			selector.WithContainerName(ref.ContainerName)
		}
		to.WithResourceFieldRef(selector)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		selector := corev1ac.ConfigMapKeySelector().WithName(ref.Name).WithKey(ref.Key)
		selector.Optional = ref.Optional
		to.WithConfigMapKeyRef(selector)
	}
	if ref := from.SecretKeyRef; ref != nil {
		selector := corev1ac.SecretKeySelector().WithName(ref.Name).WithKey(ref.Key)
		selector.Optional = ref.Optional
		to.WithSecretKeyRef(selector)
	}
	if ref := from.FileKeyRef; ref != nil {
		selector := corev1ac.FileKeySelector().WithVolumeName(ref.VolumeName).WithPath(ref.Path).WithKey(ref.Key)
		selector.Optional = ref.Optional
		to.WithFileKeyRef(selector)
	}
	return to
}
