package image_test

import (
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

func TestParsePlatforms(t *testing.T) {
	for list, want := range map[string][]v1.Platform{
		"linux/arm64":               {arm64},
		"linux/amd64,linux/arm64":   {amd64, arm64},
		" linux/amd64  linux/arm64": {amd64, arm64},
	} {
		if platforms, err := image.ParsePlatforms(list); err != nil || !slices.EqualFunc(platforms, want, v1.Platform.Equals) {
			t.Errorf("%q is %v, %v", list, platforms, err)
		}
	}
	for _, list := range []string{"", ",", "linux", "linux/", "/arm64", "linux/arm/v7", "linux:5/arm64:", "linux/amd64,linux"} {
		if platforms, err := image.ParsePlatforms(list); err == nil {
			t.Errorf("%q is %v", list, platforms)
		}
	}
}
