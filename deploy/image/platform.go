package image

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ParsePlatforms parses a list of platforms such as linux/amd64, separated by commas or spaces. The list must not be empty. It refuses variants
// such as linux/arm/v7, for which no program is built.
func ParsePlatforms(list string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		os, architecture, found := strings.Cut(s, "/")
		if !found || os == "" || architecture == "" || strings.ContainsAny(architecture, "/:") {
			return nil, fmt.Errorf("%q is not a platform: it must be OS/ARCHITECTURE, such as linux/amd64", s)
		}
		platforms = append(platforms, v1.Platform{OS: os, Architecture: architecture})
	}
	if len(platforms) == 0 {
		return nil, errors.New("no platform is named: name at least one, such as linux/amd64")
	}
	return platforms, nil
}
