package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	schema := `{"additionalProperties": false, "properties": {
		"replicas": {"type": "integer", "description": "The number of pods."},
		"labels": {"description": "Additional | labels.", "properties": {"name": false}, "additionalProperties": {"type": "string"}},
		"image": {"description": "The image.", "additionalProperties": false, "properties": {
			"tag": {"type": "string", "description": "The tag."},
			"digest": {"type": "string", "description": "The digest."}}}}}`
	table, err := tableOf([]byte(schema), map[string]any{"replicas": 2, "image": map[string]any{"tag": ""}})
	if err != nil {
		t.Fatal(err)
	}
	want := "| Value | Default | Description |\n| --- | --- | --- |\n" +
		"| `image.digest` |  | The digest. |\n" +
		"| `image.tag` | `\"\"` | The tag. |\n" +
		"| `labels` |  | Additional \\| labels. |\n" +
		"| `replicas` | `2` | The number of pods. |\n"
	if table != want {
		t.Errorf("the table is\n%s\nwant\n%s", table, want)
	}
}

func TestAValueWithoutADescriptionIsRefused(t *testing.T) {
	schema := `{"properties": {"image": {"additionalProperties": false, "properties": {"tag": {"type": "string"}}}}}`
	if _, err := tableOf([]byte(schema), nil); err == nil || !strings.Contains(err.Error(), "image.tag has no description") {
		t.Errorf("the error is %v", err)
	}
}

func TestReplace(t *testing.T) {
	updated, err := replace("# Chart\n"+begin+"old\n"+end+"The end.\n", "new\n")
	if want := "# Chart\n" + begin + "new\n" + end + "The end.\n"; err != nil || updated != want {
		t.Errorf("the README is %q, %v, want %q", updated, err, want)
	}
	if _, err := replace("# Chart\n", "new\n"); err == nil {
		t.Error("a README without a place for the table is accepted")
	}
}
