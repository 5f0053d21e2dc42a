package release

import "testing"

func TestParseVersion(t *testing.T) {
	for version, valid := range map[string]bool{
		"v1.2.3":            true,
		"v0.0.0":            true,
		"v1.2.3-rc.1":       true,
		"":                  false,
		"1.2.3":             false,
		"v1.2":              false,
		"v01.2.3":           false,
		"v1.2.3.4":          false,
		"v1.2.3-":           false,
		"v1.2.3+build":      false, // a tag of an image cannot have a plus
		"v1.2.3-4-g0123456": false, // of git describe
		"v1.2.3-dirty\n":    false,
		"3a04b8d":           false,
		"latest":            false,
	} {
		if parsed, err := ParseVersion(version); (err == nil) != valid || (valid && string(parsed) != version) {
			t.Errorf("%q: %q, %v", version, parsed, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for version, want := range map[Version]struct {
		number     string
		prerelease bool
	}{
		"v1.2.3":      {"1.2.3", false},
		"v1.2.3-rc.1": {"1.2.3-rc.1", true},
	} {
		if number, prerelease := version.Number(), version.IsPrerelease(); number != want.number || prerelease != want.prerelease {
			t.Errorf("%s: %s, %t", version, number, prerelease)
		}
	}
}
