package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheRunnerImportsNothingOfKubernetes: it runs in the pods of strangers, and must be small and have no way to the API server.
func TestTheRunnerImportsNothingOfKubernetes(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(output)) {
		isOther := strings.HasPrefix(name, "mcpserver-operator/") && !strings.HasPrefix(name, "mcpserver-operator/runner")
		if strings.HasPrefix(name, "k8s.io/") || strings.HasPrefix(name, "sigs.k8s.io/") || isOther {
			t.Errorf("it imports %s", name)
		}
	}
}
