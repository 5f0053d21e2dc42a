package image_test

import (
	"strings"
	"testing"

	"mcpserver-operator/deploy/image"
)

func TestParseReference(t *testing.T) {
	for _, reference := range []string{"registry.example.com/operator:v1", "localhost:5000/team/operator:v1.2-3"} {
		if tag, err := image.ParseReference(reference); err != nil || tag.Name() != reference {
			t.Errorf("%q is %q, %v", reference, tag.Name(), err)
		}
	}
	for reference, want := range map[string]string{
		"":                                 "no image is named: it must be REGISTRY/NAME:TAG",
		"operator":                         "it must be REGISTRY/NAME:TAG",
		"operator:v1":                      "it must be REGISTRY/NAME:TAG",
		"registry.example.com/operator":    "it must be REGISTRY/NAME:TAG",
		"registry.example.com/operator:":   "it must be REGISTRY/NAME:TAG",
		"registry.example.com/OPERATOR:v1": "it must be REGISTRY/NAME:TAG",
		"registry.example.com/operator@sha256:" + strings.Repeat("0", 64): "it must be REGISTRY/NAME:TAG",
		"https://registry.example.com/operator:v1":                        "it must be REGISTRY/NAME:TAG",
	} {
		if _, err := image.ParseReference(reference); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q in it", reference, err, want)
		}
	}
}
