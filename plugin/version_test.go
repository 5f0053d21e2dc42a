package main

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestTheSettingsOfTheOperatorAreRead: without them, a plan would show changes that the operator does not make.
func TestTheSettingsOfTheOperatorAreRead(t *testing.T) {
	deployment := &appsv1.Deployment{}
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Args: []string{"--leader-elect", "--runner-image=registry.example/operator:1", "--update-pod-templates"}}}
	if got := settingsOf(deployment); got.Cluster.RunnerImage != "registry.example/operator:1" || !got.UpdateTemplates {
		t.Errorf("got %+v", got)
	}
	if got := settingsOf(&appsv1.Deployment{}); got.Cluster.RunnerImage != "" || got.UpdateTemplates {
		t.Errorf("without flags: %+v", got)
	}
}
