package status

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/registry"
)

// imageOf returns the image in the status: that with whose command the pod template is built. While the image is looked up, this is the recorded
// image.
func imageOf(s *observe.Snapshot) *v1beta1.ImageStatus {
	switch {
	case s.Server.Spec.Suspend:
		return s.Server.Status.Image
	case s.Image.Reference != "" && s.Image.Found == nil:
		return s.Image.Recorded
	default:
		return s.Image.Found
	}
}

// commandConditions returns the conditions of a stdio server that nobody says what to run. It is not Stalled while the operator expects an answer
// of the registry.
func commandConditions(s *observe.Snapshot) []metav1.Condition {
	image := s.Image
	switch {
	case image.Reference != "" && image.Err == nil:
		return reconciling(reasonProgressing, fmt.Sprintf("the operator looks up the command of image %.300q in its registry", image.Reference)+keptMessage(s))
	case errors.Is(image.Err, registry.ErrUnavailable):
		return reconciling(reasonCommand, commandMessage(s)+". The operator retries")
	default:
		return stalled(reasonCommand, commandMessage(s))
	}
}

// commandMessage returns the message about a stdio server that nobody says what to run.
func commandMessage(s *observe.Snapshot) string {
	server := s.Server
	message := "the command of the server is unknown: neither spec.command nor the container mcp of spec.podTemplateSpec has a command"
	if err := s.Image.Err; err != nil {
		message += fmt.Sprintf(", and the operator cannot read it from image %.300q: %s", s.Image.Reference, quoted(err))
	}
	return message + keptMessage(s) + credentialsAdvice(s.Image.Err) + fmt.Sprintf(". To set the command, look up the entrypoint of the image, and run: "+
		`kubectl -n %s patch %s %s --type=merge -p '{"spec":{"command":["COMMAND","ARGUMENT"]}}'. To run the pods without a runner, `+
		"set spec.sessions.mode to Direct", server.Namespace, mcpServerResource, server.Name)
}

// credentialsAdvice returns the continuation of a message about an image that the operator may not read.
func credentialsAdvice(err error) string {
	if !errors.Is(err, registry.ErrUnauthorized) {
		return ""
	}
	return ". The operator does not use spec.imagePullSecrets. A cluster admin can give it credentials of its own"
}

// keptMessage returns the continuation of a message about a pod template that is kept while the command is unknown.
func keptMessage(s *observe.Snapshot) string {
	if s.Children.StatefulSet == nil {
		return ""
	}
	return fmt.Sprintf(". The operator does not change the pod template of StatefulSet %q until then; its pods keep running",
		applyconfigs.StatefulSetName(s.Server.Name))
}
