package main

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/plan"
)

// checkVersion fails if the operator on the cluster has another minor version: it may build other children than this plugin. If the version is
// unknown, it prints a warning. It also reads the flags of the operator that decide about the children.
func (s *session) checkVersion(ctx context.Context, c *connection) error {
	var list appsv1.DeploymentList
	err := c.List(ctx, &list, client.MatchingLabels{"app.kubernetes.io/name": applyconfigs.FieldManager})
	if err != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("looking for the operator: %w", err)
	}
	for i := range list.Items {
		c.settings = settingsOf(&list.Items[i])
		operator := versionOf(&list.Items[i])
		switch isSame, known := sameMinor(operator, version); {
		case !known:
			continue
		case !isSame:
			return fmt.Errorf("the operator in namespace %q has version %s, and this plugin has version %s: "+
				"use the plugin of the operator's release, because another version may build other children", list.Items[i].Namespace, operator, version)
		default:
			return nil
		}
	}
	s.warn("Warning: the version of the operator is unknown. This plan is that of version %s.", version)
	return nil
}

// settingsOf returns the settings in the flags of the operator.
func settingsOf(deployment *appsv1.Deployment) plan.Settings {
	var settings plan.Settings
	for _, container := range deployment.Spec.Template.Spec.Containers {
		for _, argument := range container.Args {
			name, value, hasValue := strings.Cut(strings.TrimLeft(argument, "-"), "=")
			switch name {
			case "runner-image":
				settings.Cluster.RunnerImage = value
			case "update-pod-templates":
				settings.UpdateTemplates = !hasValue || value == "true"
			}
		}
	}
	return settings
}

// versionOf returns the version of the operator in a Deployment: the tag of its image, or else its label, which the chart sets to its own
// version; empty if neither is a semantic version.
func versionOf(deployment *appsv1.Deployment) string {
	var found []string
	for _, container := range deployment.Spec.Template.Spec.Containers {
		image, _, _ := strings.Cut(container.Image, "@")
		_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
		found = append(found, tag)
	}
	for _, version := range append(found, deployment.Labels["app.kubernetes.io/version"]) {
		if _, err := utilversion.ParseSemantic(version); err == nil {
			return version
		}
	}
	return ""
}

// sameMinor reports whether two versions have the same major and minor version. Known is false if one of them is not a semantic version.
func sameMinor(a, b string) (same, known bool) {
	first, err := utilversion.ParseSemantic(a)
	if err != nil {
		return false, false
	}
	second, err := utilversion.ParseSemantic(b)
	if err != nil {
		return false, false
	}
	return first.Major() == second.Major() && first.Minor() == second.Minor(), true
}
