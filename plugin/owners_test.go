package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func entry(manager string, operation metav1.ManagedFieldsOperationType, subresource, fields string) metav1.ManagedFieldsEntry {
	raw := &metav1.FieldsV1{}
	raw.SetRawBytes([]byte(fields))
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource, APIVersion: "apps/v1", FieldsType: "FieldsV1", FieldsV1: raw,
		Time: &metav1.Time{Time: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)},
	}
}

// deployment has two entries of env that two managers own, and a scale that two managers own.
func deployment() *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Name: "web", ResourceVersion: "7", ManagedFields: []metav1.ManagedFieldsEntry{
		entry("helm", "Apply", "", `{"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:name":{},"f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:ports":{"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}`),
		entry("kubectl", "Update", "scale", `{"f:spec":{"f:replicas":{}}}`),
		entry("kubectl", "Update", "", `{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{"f:env":{"k:{\"name\":\"B\"}":{".":{},"f:name":{},"f:value":{}}}}}}}},"f:metadata":{"f:annotations":{"f:example.com/note":{}},"f:labels":{"f:app":{},"f:app.kubernetes.io/name":{}}}}`),
	}}
}

// TestOwnersOfAPath: a path names its field and all fields below it. The quotes of keys, and the order of several keys, do not matter.
func TestOwnersOfAPath(t *testing.T) {
	for path, want := range map[string][]string{
		".spec.replicas": {".spec.replicas helm (Apply), kubectl (Update, scale)"},
		".spec.template.spec.containers[name=web].env": {
			`.spec.template.spec.containers[name="web"].env[name="A"].name helm (Apply)`, `.spec.template.spec.containers[name="web"].env[name="A"].value helm (Apply)`,
			`.spec.template.spec.containers[name="web"].env[name="B"].name kubectl (Update)`, `.spec.template.spec.containers[name="web"].env[name="B"].value kubectl (Update)`,
		},
		`.spec.template.spec.containers[name="web"].ports[protocol="TCP", containerPort=8080]`: {
			`.spec.template.spec.containers[name="web"].ports[containerPort=8080,protocol="TCP"] helm (Apply)`,
			`.spec.template.spec.containers[name="web"].ports[containerPort=8080,protocol="TCP"].containerPort helm (Apply)`,
		},
		".metadata.annotations.example.com/note": {".metadata.annotations.example.com/note kubectl (Update)"},
		".metadata.labels.app":                   {".metadata.labels.app kubectl (Update)"}, // not app.kubernetes.io/name
		".spec.replica":                          nil,
	} {
		top, err := parsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		owners, err := ownersOf(deployment(), top)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, field := range owners {
			names := make([]string, len(field.Owners))
			for i, owner := range field.Owners {
				names[i] = owner.String()
			}
			got = append(got, field.Field+" "+strings.Join(names, ", "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestAFieldInAnAtomicFieldHasItsOwners: Kubernetes records the owner of the whole.
func TestAFieldInAnAtomicFieldHasItsOwners(t *testing.T) {
	object := &metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{entry("helm", "Apply", "", `{"f:spec":{"f:selector":{},"f:sel":{}}}`)}}
	owners, err := ownersAbove(object, ".spec.selector.matchLabels.app")
	if err != nil || len(owners) != 1 || owners[0].Field != ".spec.selector" || owners[0].Owners[0].Manager != "helm" {
		t.Errorf("got %+v, %v", owners, err)
	}
}

func TestAnInvalidPathHasTheWayOut(t *testing.T) {
	for path, want := range map[string]string{
		"spec.replicas":               "begin with a dot",
		".":                           "begin with a dot",
		".spec.containers[0].image":   `such as [name="web"]`,
		".spec.containers[name=web":   "not closed",
		".spec.containers[name=w].x[": "not closed",
	} {
		if _, err := parsePath(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", path, err, want)
		}
	}
}

// TestTextFromTheClusterIsBounded: anybody can choose the name of a field manager.
func TestTextFromTheClusterIsBounded(t *testing.T) {
	got := bounded("\x1b[31m" + strings.Repeat("a", 4096) + "\n")
	if len(got) > mostShown+len("…") || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("got %q", got)
	}
}

// TestAnErrorHasNoControlCharacters: it may have the answer of an admission webhook. The lines of several errors stay.
func TestAnErrorHasNoControlCharacters(t *testing.T) {
	got := printable("one\ntwo \x1b[31m"+strings.Repeat("a", mostOfErrors), mostOfErrors, "\n\t")
	if len(got) > mostOfErrors+len("…") || !strings.HasPrefix(got, "one\ntwo ?[31m") {
		t.Errorf("got %.40q, %d bytes", got, len(got))
	}
}

// TestManagersAreNamedByTheirNameOrByMore: a name alone names all entries of this manager as a giver, and must be unique as a receiver.
func TestManagersAreNamedByTheirNameOrByMore(t *testing.T) {
	for text, want := range map[string]int{"helm": 1, "kubectl": 2, "kubectl:Update": 1, "kubectl:Update:scale": 1, "kubectl:Apply": 0, "nobody-else": 0} {
		if found, err := managersNamed(deployment(), text); err != nil || len(found) != want {
			t.Errorf("%s: found %v, %v, want %d", text, found, err, want)
		}
	}
	if _, err := receiverNamed(deployment(), "kubectl"); err == nil || !strings.Contains(err.Error(), "kubectl:Apply") {
		t.Errorf("an ambiguous receiver: got %v", err)
	}
	if receiver, err := receiverNamed(deployment(), "argocd-controller"); err != nil || receiver.Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("a new receiver: got %v, %v", receiver, err)
	}
	for _, text := range []string{"", ":Apply", "helm:Replace"} {
		if _, err := parseManager(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
