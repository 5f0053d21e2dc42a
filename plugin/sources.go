package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// source is where an object comes from: a tool that would write it again.
type source struct {
	// Name is the name for users, such as Argo CD Application "web".
	Name string `json:"name"`
	// HasReplicas is true if the source is known to set replicas.
	HasReplicas bool `json:"hasReplicas,omitempty"`
}

// The labels and annotations by which tools track their objects.
const (
	argoCDTrackingAnnotation = "argocd.argoproj.io/tracking-id"
	instanceLabel            = "app.kubernetes.io/instance" // of Argo CD with label tracking, and of most charts
	helmReleaseAnnotation    = "meta.helm.sh/release-name"
	helmNamespaceAnnotation  = "meta.helm.sh/release-namespace"
	kustomizationLabel       = "kustomize.toolkit.fluxcd.io/name"
	kustomizationNamespace   = "kustomize.toolkit.fluxcd.io/namespace"
	helmReleaseLabel         = "helm.toolkit.fluxcd.io/name"
	helmReleaseNamespace     = "helm.toolkit.fluxcd.io/namespace"
)

// sourcesOf returns the tools that an object comes from, by its labels and annotations. Anybody can set these: they are hints.
func sourcesOf(object metav1.Object, kind schema.GroupKind) []source {
	var all []source
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	add := func(format string, parts ...string) {
		args := make([]any, len(parts))
		for i, part := range parts {
			args[i] = bounded(part)
		}
		all = append(all, source{Name: fmt.Sprintf(format, args...)})
	}
	application, isTracked := trackedBy(object, kind)
	if isTracked {
		add("Argo CD Application %q", application)
	}
	release, isOfHelm := annotations[helmReleaseAnnotation]
	if isOfHelm {
		add("Helm release %q in namespace %q", release, annotations[helmNamespaceAnnotation])
	}
	if instance := labels[instanceLabel]; instance != "" && !isTracked && (!isOfHelm || instance != release) && !isLabelOfOperator(object) {
		if isWrittenByArgoCD(object) {
			add("Argo CD Application %q", instance)
		} else {
			add("Argo CD Application %q, if Argo CD tracks objects by the label "+instanceLabel, instance)
		}
	}
	if name, has := labels[kustomizationLabel]; has {
		add("Flux Kustomization %q in namespace %q", name, labels[kustomizationNamespace])
	}
	if name, has := labels[helmReleaseLabel]; has {
		add("Flux HelmRelease %q in namespace %q", name, labels[helmReleaseNamespace])
	}
	return all
}

// trackedBy returns the Argo CD Application in the annotation of an object, which is APPLICATION:GROUP/KIND:NAMESPACE/NAME. An annotation that was
// copied from another object names that object, and Argo CD ignores it.
func trackedBy(object metav1.Object, kind schema.GroupKind) (application string, isTracked bool) {
	application, resource, _ := strings.Cut(object.GetAnnotations()[argoCDTrackingAnnotation], ":")
	return application, resource == fmt.Sprintf("%s/%s:%s/%s", kind.Group, kind.Kind, object.GetNamespace(), object.GetName())
}

// isWrittenByArgoCD reports whether a field manager of Argo CD wrote an object.
func isWrittenByArgoCD(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool { return strings.HasPrefix(entry.Manager, "argocd-") })
}

// isLabelOfOperator reports whether this operator set the label with the instance, as it does on the children.
func isLabelOfOperator(object metav1.Object) bool {
	owners, err := ownership.OwnersOf(object, fieldpath.MakePathOrDie("metadata", "labels", instanceLabel))
	return err == nil && ownership.Owns(owners, observe.Self)
}

// sourcesOfReplicas returns the sources that would set spec.replicas of an MCPServer again: the field managers that own it, the last
// client-side apply, and the tools that the MCPServer comes from.
func sourcesOfReplicas(server *v1beta1.MCPServer) ([]source, error) {
	var all []source
	for _, path := range declarationPaths {
		owners, err := ownership.OwnersOf(server, path)
		if err != nil {
			return nil, err
		}
		for _, owner := range owners {
			if owner.Name != fieldManager {
				all = append(all, source{Name: fmt.Sprintf("field manager %q (%s)", bounded(owner.Name), owner.Operation), HasReplicas: true})
			}
		}
	}
	if last := server.Annotations[corev1.LastAppliedConfigAnnotation]; last != "" {
		var manifest struct {
			Spec v1beta1.MCPServerSpec `json:"spec"`
		}
		if err := json.Unmarshal([]byte(last), &manifest); err == nil && manifest.Spec.DeclaredReplicas() != nil {
			all = append(all, source{Name: "the manifest of the last kubectl apply (client-side)", HasReplicas: true})
		}
	}
	return append(all, sourcesOf(server, serverKind)...), nil
}

// serverKind is the kind of an MCPServer.
var serverKind = v1beta1.GroupVersion.WithKind("MCPServer").GroupKind()

// declarationPaths are the fields of an MCPServer that declare the scale.
var declarationPaths = []fieldpath.Path{fieldpath.MakePathOrDie("spec", "replicas"), fieldpath.MakePathOrDie("spec", "backendReplicas")}

// warningAbout returns the warning about sources that would declare the scale again, in which way; empty if there are none.
func warningAbout(sources []source, way string) string {
	text := &strings.Builder{}
	for _, one := range sources {
		if one.HasReplicas {
			fmt.Fprintf(text, "  %s has replicas: %s\n", one.Name, way)
		}
	}
	for _, one := range slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return s.HasReplicas }) {
		fmt.Fprintf(text, "  %s manages the MCPServer: look there for replicas, in the chart or in Git.\n", one.Name)
	}
	return text.String()
}
