// Command schema reads the CRD of MCPServer from standard input, adds the schema of a PodTemplateSpec and a maximum for every list and map in
// the spec, removes default values inside lists, and writes the CRD to standard output.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	content, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	// The typed CRD would be written with an empty status, so this is a map.
	var definition map[string]any
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return fmt.Errorf("parsing the CRD: %w", err)
	}
	template, err := templateSchema()
	if err != nil {
		return err
	}
	properties, err := runtime.DefaultUnstructuredConverter.ToUnstructured(template)
	if err != nil {
		return fmt.Errorf("converting the schema: %w", err)
	}
	versions, _, err := unstructured.NestedSlice(definition, "spec", "versions")
	if err != nil {
		return fmt.Errorf("reading the versions of the CRD: %w", err)
	}
	if len(versions) != 1 {
		return fmt.Errorf("the CRD has %d versions, and the Go types have one", len(versions))
	}
	stored := versions[0].(map[string]any)
	at := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties", "podTemplateSpec"}
	unstructured.RemoveNestedField(stored, append(at, "x-kubernetes-preserve-unknown-fields")...)
	if err := unstructured.SetNestedField(stored, properties["properties"], append(at, "properties")...); err != nil {
		return fmt.Errorf("writing the schema into the CRD: %w", err)
	}
	if err := changeSpec(stored, boundLists, removeItemDefaults, shortenDescriptions); err != nil {
		return err
	}
	versions = []any{olderVersion(stored), stored}
	if err := unstructured.SetNestedSlice(definition, versions, "spec", "versions"); err != nil {
		return fmt.Errorf("writing the versions of the CRD: %w", err)
	}
	content, err = yaml.Marshal(definition)
	if err != nil {
		return fmt.Errorf("writing the CRD: %w", err)
	}
	if _, err := fmt.Fprintf(out, "---\n%s", content); err != nil {
		return fmt.Errorf("writing the CRD: %w", err)
	}
	return nil
}

// olderVersion returns the version of the CRD that is served for manifests from before the stored version. Its schema is the same, so that the
// API server converts objects by changing the apiVersion only.
func olderVersion(stored map[string]any) map[string]any {
	older := runtime.DeepCopyJSON(stored)
	older["name"], older["storage"] = "v1alpha1", false
	return older
}

// changeSpec changes the schema of the spec in a version of the CRD.
func changeSpec(version map[string]any, changes ...func(spec map[string]any)) error {
	at := []string{"schema", "openAPIV3Schema", "properties", "spec"}
	spec, _, err := unstructured.NestedMap(version, at...)
	if err != nil {
		return fmt.Errorf("reading the schema of the spec: %w", err)
	}
	for _, change := range changes {
		change(spec)
	}
	if err := unstructured.SetNestedMap(version, spec, at...); err != nil {
		return fmt.Errorf("writing the schema of the spec: %w", err)
	}
	return nil
}
