package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

// TestArguments: wrong arguments are reported before the build.
func TestArguments(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no image":           {[]string{"push", ""}, `no image is named: it must be REGISTRY/NAME:TAG`},
		"no argument":        {[]string{"push"}, `run "make push IMAGE=REGISTRY/NAME:TAG"`},
		"no registry":        {[]string{"push", "operator:v1"}, `"operator:v1" does not name an image in a registry`},
		"another command":    {[]string{"pull", "registry.example.com/operator:v1"}, "unexpected arguments"},
		"too many arguments": {[]string{"push", "a", "b"}, "unexpected arguments"},
		"no platform":        {[]string{"-platforms", ""}, "IMAGE_PLATFORMS: no platform is named"},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			err := run(t.Context(), append([]string{"-out", out}, test.args...), io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
			if built, err := os.ReadDir(out); err != nil || len(built) > 0 {
				t.Errorf("there is %v in the folder, %v", built, err)
			}
		})
	}
}
