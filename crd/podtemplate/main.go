// Command podtemplate reads the CRD of MCPServer from standard input, adds the schema of a PodTemplateSpec to it, and
// writes it to standard output.
//
// The Go type of spec.podTemplateSpec is raw JSON, because a Go struct cannot tell a zero value from an absent field.
// The CRD needs the schema nevertheless: with it, the API server refuses unknown fields, and two appliers of one
// MCPServer can own different entries of a list. The schema has no descriptions. With descriptions, the CRD would be too
// large for the annotation in which a client-side kubectl apply records it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/tools/go/packages"
	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-tools/pkg/crd"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
	"sigs.k8s.io/yaml"
)

const corePackage = "k8s.io/api/core/v1"

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "podtemplate:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	content, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	// The typed CRD would be written with an empty status.
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
	for _, version := range versions {
		version := version.(map[string]any)
		at := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties", "podTemplateSpec"}
		unstructured.RemoveNestedField(version, append(at, "x-kubernetes-preserve-unknown-fields")...)
		if err := unstructured.SetNestedField(version, properties["properties"], append(at, "properties")...); err != nil {
			return fmt.Errorf("writing the schema into the CRD: %w", err)
		}
	}
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

// templateSchema returns the schema of a partial PodTemplateSpec.
func templateSchema() (*apiext.JSONSchemaProps, error) {
	roots, err := loader.LoadRoots(corePackage)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", corePackage, err)
	}
	registry := &markers.Registry{}
	if err := (crd.Generator{}).RegisterMarkers(registry); err != nil {
		return nil, fmt.Errorf("registering the markers: %w", err)
	}
	parser := &crd.Parser{
		Collector:                  &markers.Collector{Registry: registry},
		Checker:                    &loader.TypeChecker{NodeFilters: []loader.NodeFilter{(crd.Generator{}).CheckFilter()}},
		GenerateEmbeddedObjectMeta: true,
	}
	crd.AddKnownTypes(parser)
	parser.NeedPackage(roots[0])
	name := crd.TypeIdent{Package: roots[0], Name: "PodTemplateSpec"}
	parser.NeedFlattenedSchemaFor(name)
	// The loader loads only the types that are needed. The type checker reports the others as undefined.
	if loader.PrintErrors(roots, packages.TypeError) {
		return nil, errors.New("loading the types failed")
	}
	schema := parser.FlattenedSchemata[name]
	withoutDescriptions(&schema)
	// A partial template need not have containers: the operator adds its own.
	pod := schema.Properties["spec"]
	pod.Required = slices.DeleteFunc(pod.Required, func(field string) bool { return field == "containers" })
	schema.Properties["spec"] = pod
	return &schema, nil
}

func withoutDescriptions(schema *apiext.JSONSchemaProps) {
	schema.Description = ""
	for name, property := range schema.Properties {
		withoutDescriptions(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil {
		withoutDescriptions(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		withoutDescriptions(schema.AdditionalProperties.Schema)
	}
}
