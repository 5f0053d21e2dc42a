package main

import (
	"errors"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestChangedPaths: the fields that restart pods are named. Entries of keyed lists are compared by their name, whatever their order.
func TestChangedPaths(t *testing.T) {
	for name, test := range map[string]struct {
		before, after string
		want          []string
	}{
		"nothing":          {`{a: 1, l: [{name: one, v: 1}, {name: two}]}`, `{l: [{name: one, v: 1}, {name: two}], a: 1}`, nil},
		"the order":        {`{env: [{name: A}, {name: B}]}`, `{env: [{name: B}, {name: A}]}`, []string{".t.env, the order of the entries"}},
		"a double name":    {`{env: [{name: A, v: 1}, {name: A, v: 2}]}`, `{env: [{name: A, v: 3}, {name: A, v: 2}]}`, []string{".t.env"}},
		"a value":          {`{s: {image: a}}`, `{s: {image: b}}`, []string{".t.s.image"}},
		"an entry":         {`{env: [{name: A, value: x}]}`, `{env: [{name: A, value: y}, {name: B}]}`, []string{`.t.env[name="A"].value`, `.t.env[name="B"]`}},
		"a removed field":  {`{s: {image: a, tty: true}}`, `{s: {image: a}}`, []string{".t.s.tty"}},
		"a list of values": {`{args: [a, b]}`, `{args: [b, a]}`, []string{".t.args"}},
		"another type":     {`{v: {a: 1}}`, `{v: [1]}`, []string{".t.v"}},
	} {
		var before, after any
		if err := errors.Join(yaml.Unmarshal([]byte(test.before), &before), yaml.Unmarshal([]byte(test.after), &after)); err != nil {
			t.Fatal(err)
		}
		if got := changedPaths(before, after, ".t"); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestConflictsNameTheManagerAndTheField(t *testing.T) {
	err := apierrors.NewApplyConflict([]metav1.StatusCause{
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "argocd-controller" using toolhive.stacklok.dev/v1beta1`, Field: ".spec.image"},
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "kubectl" with subresource "scale" using toolhive.stacklok.dev/v1beta1`, Field: ".spec.replicas"},
	}, "conflicts")
	want := []conflict{{Manager: "argocd-controller", Field: ".spec.image"}, {Manager: "kubectl", Field: ".spec.replicas"}}
	if got := conflictsIn(err); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestAPlanIsRefusedForAnotherMinor: a patch of the same minor builds the same children.
func TestAPlanIsRefusedForAnotherMinor(t *testing.T) {
	for _, test := range []struct {
		operator, plugin string
		same, known      bool
	}{
		{"v1.2.3", "1.2.0", true, true},
		{"v1.3.0", "v1.2.9", false, true},
		{"v2.2.0", "v1.2.0", false, true},
		{"v1.2.0-4-gabc", "v1.2.0", true, true},
		{"development", "v1.2.0", false, false},
		{"v1.2.0", "development", false, false},
		{"", "", false, false},
	} {
		if same, known := sameMinor(test.operator, test.plugin); same != test.same || known != test.known {
			t.Errorf("%+v: got %t, %t", test, same, known)
		}
	}
}

// TestTheVersionOfTheOperator: the tag of the image is what runs.
func TestTheVersionOfTheOperator(t *testing.T) {
	for image, want := range map[string]string{
		"registry.example:5000/operator:v1.2.3":             "v1.2.3",
		"registry.example/operator:1.2.3@sha256:0000000000": "1.2.3",
		"registry.example:5000/operator":                    "0.1.0",
		"operator:latest":                                   "0.1.0",
	} {
		deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/version": "0.1.0"}}}
		deployment.Spec.Template.Spec.Containers = []corev1.Container{{Image: image}}
		if got := versionOf(deployment); got != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
	}
}
