package main

import (
	"os"
	"testing"

	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// TestEveryListIsBounded verifies that each list and map in the spec has a maximum. Otherwise, an MCPServer could be as large as etcd permits.
func TestEveryListIsBounded(t *testing.T) {
	content, err := os.ReadFile("../../deploy/crd/toolhive.stacklok.dev_mcpservers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition apiext.CustomResourceDefinition
	if err := yaml.Unmarshal(content, &definition); err != nil {
		t.Fatal(err)
	}
	lists := 0
	var look func(path string, schema *apiext.JSONSchemaProps)
	look = func(path string, schema *apiext.JSONSchemaProps) {
		if schema.Type == "array" {
			lists++
			if schema.MaxItems == nil || *schema.MaxItems > 512 {
				t.Errorf("list %s has no maximum, or one over 512", path)
			}
		}
		if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
			if schema.MaxProperties == nil {
				t.Errorf("map %s has no maximum", path)
			}
			look(path+"{}", schema.AdditionalProperties.Schema)
		}
		if schema.Items != nil {
			look(path+"[]", schema.Items.Schema)
		}
		for name, property := range schema.Properties {
			look(path+"."+name, &property)
		}
	}
	for _, version := range definition.Spec.Versions {
		spec := version.Schema.OpenAPIV3Schema.Properties["spec"]
		look(version.Name+" spec", &spec)
	}
	if lists == 0 {
		t.Error("the CRD has no lists")
	}
}
