package main

import "slices"

// removeItemDefaults removes the default values inside lists and maps from the schema of the spec. Argo CD compares lists as a whole: an
// Application would be OutOfSync for good if its manifest leaves out a field of an entry that the API server sets, such as the protocol of a
// port. Kubernetes sets the same values in the pods.
func removeItemDefaults(spec map[string]any) { removeDefaults(spec, false) }

// removeDefaults removes the default values from the schema of a field. IsInside is true if the field is inside a list or a map.
func removeDefaults(schema map[string]any, isInside bool) {
	if isInside {
		delete(schema, "default")
	}
	if items, isList := schema["items"].(map[string]any); isList {
		keepKeys(schema, items)
		removeDefaults(items, true)
	}
	if values, isMap := schema["additionalProperties"].(map[string]any); isMap {
		removeDefaults(values, true)
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, property := range properties {
		if property, isSchema := property.(map[string]any); isSchema {
			removeDefaults(property, isInside)
		}
	}
}

// keepKeys makes the keys of a list valid without default values: a key without a default must be required. A manifest need not have the
// protocol of a port, so that such a list has no keys, and one owner.
func keepKeys(list, items map[string]any) {
	keys, _ := list["x-kubernetes-list-map-keys"].([]any)
	properties, _ := items["properties"].(map[string]any)
	required, _ := items["required"].([]any)
	for _, key := range keys {
		property, _ := properties[key.(string)].(map[string]any)
		byDefault, hasDefault := property["default"]
		switch {
		case !hasDefault || slices.Contains(required, key):
		case byDefault == "":
			required = append(required, key)
			items["required"] = required
		default:
			list["x-kubernetes-list-type"] = "atomic"
			delete(list, "x-kubernetes-list-map-keys")
		}
	}
}
