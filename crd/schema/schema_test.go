package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// definition returns the CRD.
func definition(t *testing.T) *apiext.CustomResourceDefinition {
	t.Helper()
	content, err := os.ReadFile("../../deploy/crd/toolhive.stacklok.dev_mcpservers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	definition := &apiext.CustomResourceDefinition{}
	if err := yaml.Unmarshal(content, definition); err != nil {
		t.Fatal(err)
	}
	return definition
}

// TestVersions verifies that both versions are served with one schema, and that the newer version is stored.
func TestVersions(t *testing.T) {
	versions := definition(t).Spec.Versions
	if len(versions) != 2 || versions[0].Name != "v1alpha1" || versions[1].Name != "v1beta1" {
		t.Fatalf("got %d versions", len(versions))
	}
	for i, version := range versions {
		if !version.Served || version.Storage != (i == 1) {
			t.Errorf("%s: served %t, stored %t", version.Name, version.Served, version.Storage)
		}
	}
	versions[0].Name, versions[0].Storage = versions[1].Name, versions[1].Storage
	if !reflect.DeepEqual(versions[0], versions[1]) {
		t.Error("the versions differ")
	}
}

// TestTheCRDFitsInAnAnnotation verifies that a client-side kubectl apply and the default sync of Argo CD can record the CRD: annotations have
// at most 262,144 bytes.
func TestTheCRDFitsInAnAnnotation(t *testing.T) {
	content, err := json.Marshal(definition(t))
	if err != nil {
		t.Fatal(err)
	}
	const most, reserve = 262144, 8192 // for the other annotations of the CRD, and for what tools add
	if len(content) > most-reserve {
		t.Errorf("the CRD has %d bytes, at most %d fit", len(content), most-reserve)
	}
	t.Logf("%d bytes", len(content))
}

// TestEveryListIsBounded verifies that each list and map in the spec has a maximum. Otherwise, an MCPServer could be as large as etcd permits.
func TestEveryListIsBounded(t *testing.T) {
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
	for _, version := range definition(t).Spec.Versions {
		spec := version.Schema.OpenAPIV3Schema.Properties["spec"]
		look(version.Name+" spec", &spec)
	}
	if lists == 0 {
		t.Error("the CRD has no lists")
	}
}

// TestNoDefaultInAList verifies that the API server sets no field of an entry of a list: Argo CD would find a difference for good.
func TestNoDefaultInAList(t *testing.T) {
	lists := 0
	var look func(path string, schema *apiext.JSONSchemaProps, isInside bool)
	look = func(path string, schema *apiext.JSONSchemaProps, isInside bool) {
		if isInside && schema.Default != nil {
			t.Errorf("%s has the default %s", path, schema.Default.Raw)
		}
		if schema.Items != nil {
			lists++
			look(path+"[]", schema.Items.Schema, true)
		}
		if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
			look(path+"{}", schema.AdditionalProperties.Schema, true)
		}
		for name, property := range schema.Properties {
			look(path+"."+name, &property, isInside)
		}
	}
	for _, version := range definition(t).Spec.Versions {
		spec := version.Schema.OpenAPIV3Schema.Properties["spec"]
		look(version.Name+" spec", &spec, false)
	}
	if lists == 0 {
		t.Error("the CRD has no lists")
	}
}

// TestTheTableOfFieldsIsComplete verifies that docs/manifests.md has the class of each field of the spec, and that the class is what the schema
// says: a refused field has a rule, and the description of a field without an effect says so.
func TestTheTableOfFieldsIsComplete(t *testing.T) {
	content, err := os.ReadFile("../../docs/manifests.md")
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*) \| (carried out|no effect|refused) \|`).FindAllStringSubmatch(string(content), -1) {
		for _, field := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(row[1], -1) {
			if before, twice := classes[field[1]]; twice {
				t.Errorf("%s is in two rows: %s and %s", field[1], before, row[2])
			}
			classes[field[1]] = row[2]
		}
	}
	spec := definition(t).Spec.Versions[1].Schema.OpenAPIV3Schema.Properties["spec"]
	for name, property := range spec.Properties {
		class := "carried out"
		rule := fmt.Sprintf("!has(self.%s) || (oldSelf", name)
		for _, validation := range spec.XValidations {
			if strings.HasPrefix(validation.Rule, rule) {
				class = "refused"
			}
		}
		if strings.HasPrefix(property.Description, "No effect: ") {
			class = "no effect"
		}
		if classes[name] != class {
			t.Errorf("%s is %q in the schema and %q in docs/manifests.md", name, class, classes[name])
		}
		delete(classes, name)
	}
	for name := range classes {
		t.Errorf("docs/manifests.md has the field %s, which the schema does not have", name)
	}
}
