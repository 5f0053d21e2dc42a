package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// ReplaceCRD replaces the CRD with that of another operator for MCPServers, which accepts any field and stores objects in the given version. A
// CRD whose stored version was changed has both versions in status.storedVersions. It serves the given versions, or all if none is given.
func (c *Cluster) ReplaceCRD(ctx context.Context, storage string, served ...string) error {
	content, err := os.ReadFile(filepath.Join(c.root, "deploy", "crd", "toolhive.stacklok.dev_mcpservers.yaml"))
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(content, &definition.Object); err != nil {
		return fmt.Errorf("parsing the CRD: %w", err)
	}
	versions, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
	if err != nil {
		return fmt.Errorf("reading the versions of the CRD: %w", err)
	}
	for _, version := range versions {
		version, isObject := version.(map[string]any)
		if !isObject {
			return fmt.Errorf("a version of the CRD is %v", version)
		}
		version["storage"] = version["name"] == storage
		version["served"] = len(served) == 0 || slices.ContainsFunc(served, func(name string) bool { return version["name"] == name })
		version["schema"] = map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
	}
	if err := unstructured.SetNestedSlice(definition.Object, versions, "spec", "versions"); err != nil {
		return fmt.Errorf("writing the versions of the CRD: %w", err)
	}
	manifest, err := json.Marshal(definition.Object)
	if err != nil {
		return fmt.Errorf("encoding the CRD: %w", err)
	}
	if _, err := c.KubectlWithInput(ctx, string(manifest), "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd/"+definition.GetName())
	return err
}
