package main

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/tools/go/packages"
	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-tools/pkg/crd"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
)

const corePackage = "k8s.io/api/core/v1"

// templateSchema returns the schema of a partial PodTemplateSpec.
//
// The Go type of spec.podTemplateSpec is raw JSON, because a Go struct cannot tell a zero value from an absent field. The CRD still
// needs the schema: the API server then rejects unknown fields, and two appliers of an MCPServer can own different entries of a list. The schema
// has no descriptions. With descriptions, the CRD would be too large for the annotation in which a client-side kubectl apply stores it.
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
	delete(pod.Properties, "ephemeralContainers") // the API server refuses them in a pod template
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
