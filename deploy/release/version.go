package release

import (
	"fmt"
	"regexp"
	"strings"
)

// Version is the version of a release, such as v1.2.3 or v1.2.3-rc.1.
type Version string

// versions has no build metadata, which a tag of an image cannot have, and no hyphen in the prerelease. The version that "git describe" invents
// for a commit after a tag has one, such as v1.2.3-4-g0123456.
var versions = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?$`)

// ParseVersion parses the version of a release.
func ParseVersion(s string) (Version, error) {
	if !versions.MatchString(s) {
		return "", fmt.Errorf("%q is not the version of a release: it must be vMAJOR.MINOR.PATCH, such as v1.2.3, or with a prerelease, such as v1.2.3-rc.1", s)
	}
	return Version(s), nil
}

// Number returns the version without the v, as charts write it.
func (v Version) Number() string { return strings.TrimPrefix(string(v), "v") }

// IsPrerelease reports whether the version comes before the final version of the same number.
func (v Version) IsPrerelease() bool { return strings.Contains(string(v), "-") }
