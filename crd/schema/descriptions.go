package main

// ownDepth is the number of levels below the spec whose descriptions the CRD keeps. The levels below belong to types of Kubernetes, such as
// those of volumes. Their descriptions are in the documentation of Kubernetes, and with them the CRD would be too large for the annotation
// in which a client-side kubectl apply, or Argo CD, records it.
const ownDepth = 2

// ownFields are the fields of the spec whose descriptions the CRD keeps at all levels.
var ownFields = map[string]bool{"resourceOverrides": true}

// shortenDescriptions removes the descriptions of types of Kubernetes from the schema of the spec.
func shortenDescriptions(spec map[string]any) { shorten(spec, 0) }

// shorten removes descriptions from the schema of a field that is a number of levels below the spec.
func shorten(schema map[string]any, depth int) {
	if depth > ownDepth {
		delete(schema, "description")
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if schema, isSchema := schema[key].(map[string]any); isSchema {
			shorten(schema, depth)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range properties {
		if property, isSchema := property.(map[string]any); isSchema && !ownFields[name] {
			shorten(property, depth+1)
		}
	}
}
