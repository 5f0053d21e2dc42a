package applyconfigs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// ImageToLookUp returns the image whose entrypoint and cmd are the command of a stdio server behind a runner, because neither spec.command nor
// the container of spec.podTemplateSpec has a command; empty if they are not needed.
func ImageToLookUp(server *v1beta1.MCPServer, cluster Cluster) string {
	if !HasRunner(server, cluster) || Transport(server) != v1beta1.TransportStdio || len(server.Spec.Command) > 0 {
		return ""
	}
	if server.Spec.PodTemplateSpec == nil {
		return server.Spec.Image
	}
	own := corev1ac.PodTemplateSpec().WithSpec(corev1ac.PodSpec().WithContainers(
		corev1ac.Container().WithName(ContainerName).WithImage(server.Spec.Image)))
	template, err := mergePodTemplate(own, server.Spec.PodTemplateSpec.Raw)
	if err != nil {
		return "" // StatefulSet returns this error
	}
	for i := range template.Spec.Containers {
		if c := &template.Spec.Containers[i]; *c.Name == ContainerName && len(c.Command) == 0 {
			return ptr.Deref(c.Image, "")
		}
	}
	return ""
}

// imageCommand returns the command of a container that runs an image with args: the entrypoint, and then args or, if args is empty, the cmd of
// the image. This is what Kubernetes runs if a container has args and no command. Kubernetes expands references such as $(NAME) in the
// command of a container, but not in what the image has. Therefore each $ of the image is escaped as $$.
func imageCommand(image *v1beta1.ImageStatus, args []string) []string {
	command := escape(image.Entrypoint)
	if len(args) == 0 {
		return append(command, escape(image.Cmd)...)
	}
	return append(command, args...)
}

func escape(words []string) []string {
	escaped := slices.Clone(words)
	for i := range escaped {
		escaped[i] = strings.ReplaceAll(escaped[i], "$", "$$")
	}
	return escaped
}

// RecordedImage returns the image in v1beta1.ImageAnnotation of a StatefulSet, with whose command the pod template was built; nil if there is none. The
// caller must check that the operator has written the annotation.
func RecordedImage(set *appsv1.StatefulSet) *v1beta1.ImageStatus {
	if set == nil {
		return nil
	}
	record, isRecorded := set.Annotations[v1beta1.ImageAnnotation]
	var image v1beta1.ImageStatus
	if !isRecorded || json.Unmarshal([]byte(record), &image) != nil || image.Reference == "" {
		return nil
	}
	return &image
}

// RunsCommandOf reports whether the pod template of a StatefulSet has the command that the builders make of an image.
func RunsCommandOf(image *v1beta1.ImageStatus, server *v1beta1.MCPServer, fixed Fixed, cluster Cluster, set *appsv1.StatefulSet) bool {
	template, err := podTemplate(server, fixed, cluster, image)
	if err != nil {
		return false
	}
	var wanted, live []string
	for i := range template.Spec.Containers {
		if c := &template.Spec.Containers[i]; *c.Name == ContainerName {
			wanted = behindRunner(c.Command)
		}
	}
	for i := range set.Spec.Template.Spec.Containers {
		if c := &set.Spec.Template.Spec.Containers[i]; c.Name == ContainerName {
			live = behindRunner(c.Command)
		}
	}
	return len(wanted) > 0 && slices.Equal(wanted, live)
}

// commandSeparator is between the flags of the runner and the command of the server.
const commandSeparator = "--"

// behindRunner returns the command of the server in that of a container; empty if it has no runner.
func behindRunner(command []string) []string {
	at := slices.Index(command, commandSeparator)
	if at < 0 {
		return nil
	}
	return command[at+1:]
}

// imageRecord returns the value of v1beta1.ImageAnnotation.
func imageRecord(image *v1beta1.ImageStatus) (string, error) {
	record, err := json.Marshal(image)
	if err != nil {
		return "", fmt.Errorf("encoding the record of image %.200q: %w", image.Reference, err)
	}
	return string(record), nil
}
