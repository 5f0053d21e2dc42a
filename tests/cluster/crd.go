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
	return c.WaitForCRD(ctx, definition.GetName())
}

// WaitForCRD waits until the API server serves the objects of a CRD.
func (c *Cluster) WaitForCRD(ctx context.Context, name string) error {
	return Eventually(ctx, "CRD "+name+" to be established", func(ctx context.Context) (string, bool) {
		out, err := c.Kubectl(ctx, "get", "crd", name, "-o", `jsonpath={.status.conditions[?(@.type=="Established")].status}`) // kubectl wait fails while there is no status
		return out, err == nil && out == "True"
	})
}
