package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// TestExamples verifies that every example is accepted and gets pods in a namespace that enforces the restricted Pod Security Standard.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	must(t, err)
	if len(files) < 10 {
		t.Fatalf("found only %d examples", len(files))
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		wanted := "True"
		if filepath.Base(file) == "07-storage.yaml" {
			wanted = "Unschedulable" // the cluster has no storage provisioner
		}
		testEnv.Test(t, feature(filepath.Base(file)).
			Assess("is accepted and works", all(apply(string(content)), step(func(ctx context.Context, t *testing.T) {
				eventually(ctx, t, "Ready "+wanted, func(ctx context.Context) (string, bool) {
					var list v1beta1.MCPServerList
					must(t, theCluster.Client.List(ctx, &list, client.InNamespace(in(ctx))))
					if len(list.Items) != 1 {
						return "no MCPServer", false
					}
					ready := apimeta.FindStatusCondition(list.Items[0].Status.Conditions, v1beta1.ConditionReady)
					if ready == nil {
						return "no condition", false
					}
					return ready.Reason + ": " + ready.Message, string(ready.Status) == wanted || ready.Reason == wanted
				})
			}))).
			Feature())
	}
}
