package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// mostEntries is the number of entries that a list or a map may have at most, unless its type says otherwise. No pod has as many. Without a
// bound, one MCPServer could have tens of thousands of entries, and each pass over it would cost the operator a good part of a second.
const mostEntries = 256

// moreEntries are the lists that may have more: generated manifests have hundreds of them.
var moreEntries = map[string]int64{"env": 512, "args": 512}

// boundSpec bounds the lists and maps in the spec of a version of the CRD.
func boundSpec(version map[string]any) error {
	at := []string{"schema", "openAPIV3Schema", "properties", "spec"}
	spec, _, err := unstructured.NestedMap(version, at...)
	if err != nil {
		return fmt.Errorf("reading the schema of the spec: %w", err)
	}
	bound("spec", spec)
	if err := unstructured.SetNestedMap(version, spec, at...); err != nil {
		return fmt.Errorf("writing the schema of the spec: %w", err)
	}
	return nil
}

// bound bounds the schema of a field and of everything in it.
func bound(name string, schema map[string]any) {
	most, isMore := moreEntries[name]
	if !isMore {
		most = mostEntries
	}
	if _, isBound := schema["maxItems"]; schema["type"] == "array" && !isBound {
		schema["maxItems"] = most
	}
	_, isMap := schema["additionalProperties"].(map[string]any)
	if _, isBound := schema["maxProperties"]; isMap && !isBound {
		schema["maxProperties"] = most
	}
	boundIn(schema, name, "additionalProperties")
	boundIn(schema, name, "items")
	properties, _ := schema["properties"].(map[string]any)
	for property := range properties {
		boundIn(properties, property, property)
	}
}

// boundIn bounds the schema under a key of a map, if there is one.
func boundIn(parent map[string]any, name, key string) {
	if schema, isSchema := parent[key].(map[string]any); isSchema {
		bound(name, schema)
	}
}
