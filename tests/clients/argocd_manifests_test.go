package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"sigs.k8s.io/yaml"
)

// TestArgoCDFindsNoDifferenceInAnyManifest verifies that each example, and each manifest with the shapes of ToolHive's users, is Synced after
// one sync. With client-side diff, a value that the API server sets inside a list is a difference for good.
func TestArgoCDFindsNoDifferenceInAnyManifest(t *testing.T) {
	for _, serverSide := range []bool{false, true} {
		for _, file := range manifests(t) {
			t.Run(fmt.Sprintf("%s, server-side apply %t", filepath.Base(file), serverSide), func(t *testing.T) {
				t.Parallel()
				namespace := newNamespace(t)
				app := newApplication(t, namespace, serverSide)
				targets := app.targets(t, mcpServersIn(t, file))
				app.sync(t, targets)
				eventually(t, "Argo CD to be Synced", func() (string, bool) { return "OutOfSync", app.isSynced(t, targets) })
				for _, target := range targets {
					eventually(t, "the StatefulSet", func() (string, bool) {
						found := kubectl(t, namespace, "get", "statefulset", target.GetName(), "--ignore-not-found", "-o", "name")
						return found, found != ""
					})
					operatorPasses(t, named(namespace, target.GetName()))
				}
				if !app.isSynced(t, targets) {
					t.Error("OutOfSync after a pass of the operator")
				}
			})
		}
	}
}

// manifests returns the files of the examples and of the manifests with the shapes of ToolHive's users.
func manifests(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../../deploy/examples/*.yaml", "../../applyconfigs/testdata/toolhive-*.yaml"} {
		found, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range found {
			if !strings.HasSuffix(file, ".golden.yaml") {
				files = append(files, file)
			}
		}
	}
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

// mcpServersIn returns the MCPServers in a file, without the identity that golden files need.
func mcpServersIn(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	objects, err := kube.SplitYAML(content)
	must(t, err)
	var all []string
	for _, object := range objects {
		if object.GetKind() != "MCPServer" {
			continue
		}
		object.SetUID("")
		content, err := yaml.Marshal(object.Object)
		must(t, err)
		all = append(all, string(content))
	}
	return together(all...)
}
