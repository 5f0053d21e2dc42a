package main

// mostEntries is the maximum number of entries in a list or a map, unless its type declares another maximum. Pods have fewer entries. Without a
// maximum, an MCPServer could have tens of thousands of entries, and each pass of the operator over it could take a large part of a second.
const mostEntries = 256

// moreEntries are the maximums of lists that may have more entries. Generated manifests have hundreds of entries in these lists.
var moreEntries = map[string]int64{"env": 512, "args": 512}

// boundLists bounds the lists and maps in the schema of the spec.
func boundLists(spec map[string]any) { bound("spec", spec) }

// bound adds a maximum to all lists and maps in the schema of a field, including the field itself.
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

// boundIn calls bound for the schema under a key of a map, if the key exists.
func boundIn(parent map[string]any, name, key string) {
	if schema, isSchema := parent[key].(map[string]any); isSchema {
		bound(name, schema)
	}
}
