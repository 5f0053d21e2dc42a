package image_test

import (
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

func TestParsePlatforms(t *testing.T) {
	for _, row := range []struct {
		list string
		want []v1.Platform
	}{
		{"linux/arm64", []v1.Platform{arm64}},
		{"linux/amd64,linux/arm64", []v1.Platform{amd64, arm64}},
		{" linux/amd64  linux/arm64", []v1.Platform{amd64, arm64}},
	} {
		if platforms, err := image.ParsePlatforms(row.list); err != nil || !slices.EqualFunc(platforms, row.want, v1.Platform.Equals) {
			t.Errorf("%q is %v, %v", row.list, platforms, err)
		}
	}
	for _, list := range []string{"", ",", "linux", "linux/", "/arm64", "linux/arm/v7", "linux:5/arm64:", "linux/amd64,linux"} {
		if platforms, err := image.ParsePlatforms(list); err == nil {
			t.Errorf("%q is %v", list, platforms)
		}
	}
}
