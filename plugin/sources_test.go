package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheToolsThatAnObjectComesFrom: labels and annotations are hints, and those that were copied from another object are none.
func TestTheToolsThatAnObjectComesFrom(t *testing.T) {
	instance := map[string]string{"app.kubernetes.io/instance": "shop"}
	byLabel := `Argo CD Application "shop", if Argo CD tracks objects by the label app.kubernetes.io/instance`
	tracking := func(id string) map[string]string { return map[string]string{"argocd.argoproj.io/tracking-id": id} }
	release := func(name string) map[string]string {
		return map[string]string{"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "prod"}
	}
	for name, test := range map[string]struct {
		meta metav1.ObjectMeta
		want []string
	}{
		"nothing": {metav1.ObjectMeta{}, nil},
		"Argo CD by annotation": {
			metav1.ObjectMeta{Annotations: tracking("shop:toolhive.stacklok.dev/MCPServer:team/web"), Labels: instance}, []string{`Argo CD Application "shop"`},
		},
		"an annotation of another object": {metav1.ObjectMeta{Annotations: tracking("shop:toolhive.stacklok.dev/MCPServer:team/files")}, nil},
		"an annotation of another kind":   {metav1.ObjectMeta{Annotations: tracking("shop:apps/StatefulSet:team/web")}, nil},
		"Argo CD by label": {
			metav1.ObjectMeta{Labels: instance, ManagedFields: []metav1.ManagedFieldsEntry{entry("argocd-controller", "Update", "", `{}`)}}, []string{`Argo CD Application "shop"`},
		},
		"a label that may be Argo CD's": {metav1.ObjectMeta{Labels: instance}, []string{byLabel}},
		"the label of a chart":          {metav1.ObjectMeta{Labels: instance, Annotations: release("shop")}, []string{`Helm release "shop" in namespace "prod"`}},
		"a chart of an Application":     {metav1.ObjectMeta{Labels: instance, Annotations: release("web")}, []string{`Helm release "web" in namespace "prod"`, byLabel}},
		"the label of this operator": {
			metav1.ObjectMeta{Labels: instance, ManagedFields: []metav1.ManagedFieldsEntry{
				entry("mcpserver-operator", "Apply", "", `{"f:metadata":{"f:labels":{"f:app.kubernetes.io/instance":{}}}}`),
			}}, nil,
		},
		"Flux": {
			metav1.ObjectMeta{Labels: map[string]string{
				"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system", "helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "team",
			}},
			[]string{`Flux Kustomization "apps" in namespace "flux-system"`, `Flux HelmRelease "web" in namespace "team"`},
		},
	} {
		test.meta.Namespace, test.meta.Name = "team", "web"
		var got []string
		for _, one := range sourcesOf(&test.meta, serverKind) {
			got = append(got, one.Name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestTheSourcesOfReplicas: the field managers, the last client-side apply, and the tools are named, each with what to do there.
func TestTheSourcesOfReplicas(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Namespace: "team", ResourceVersion: "7",
		Annotations: map[string]string{
			corev1.LastAppliedConfigAnnotation: `{"spec":{"image":"a","backendReplicas":3}}`,
			helmReleaseAnnotation:              "web", helmNamespaceAnnotation: "team",
			argoCDTrackingAnnotation: "shop:toolhive.stacklok.dev/MCPServer:team/web",
		},
		ManagedFields: []metav1.ManagedFieldsEntry{
			entry("kubectl-client-side-apply", "Update", "", `{"f:spec":{"f:backendReplicas":{}}}`), entry(fieldManager, "Update", "", `{"f:spec":{"f:replicas":{}}}`),
			entry("other", "Apply", "", `{"f:spec":{"f:image":{}}}`),
		},
	}}
	server.Spec.BackendReplicas = ptr.To[int32](3)
	sources, err := sourcesOfReplicas(server)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		`  field manager "kubectl-client-side-apply" (Update) has replicas: remove it there`,
		`  the manifest of the last kubectl apply (client-side) has replicas: remove it there`,
		`  Argo CD Application "shop" manages the MCPServer: look there for replicas, in the chart or in Git.`,
		`  Helm release "web" in namespace "team" manages the MCPServer: look there for replicas, in the chart or in Git.`,
	}, "\n") + "\n"
	if got := warningAbout(sources, "remove it there"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	server.Annotations[corev1.LastAppliedConfigAnnotation] = `{"spec":{"image":"a"}}`
	if sources, err = sourcesOfReplicas(server); err != nil || strings.Contains(fmt.Sprint(sources), "last kubectl apply") {
		t.Errorf("a last apply without replicas is a source: %v, %v", sources, err)
	}
}
