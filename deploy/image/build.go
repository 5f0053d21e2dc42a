package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Program is a main package in Go to build.
type Program struct {
	// Dir is a folder of the module from which the package is looked up. If empty, the working directory.
	Dir string
	// Package is the import path, or the path relative to Dir.
	Package string
	// Tags are build tags, separated by commas.
	Tags string
	// Version is the value of the variable version of the main package. If empty, the variable is not set.
	Version string
}

// Build compiles the program for the platform into the file out. The program is statically linked. It does not depend on the
// machine: it has no paths, no time and no state of the repository except Version.
func (p Program) Build(ctx context.Context, platform v1.Platform, out string) error {
	ldflags := "-s -w"
	if p.Version != "" {
		ldflags += " -X main.version=" + p.Version
	}
	//nolint:gosec // The arguments come from the developer who builds the image.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags="+p.Tags, "-ldflags="+ldflags, "-o", out, p.Package)
	build.Dir = p.Dir
	// The settings of the developer, such as GOAMD64, must not change the program.
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0",
		"CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w: %s", p.Package, platform, err, strings.TrimSpace(string(output)))
	}
	return nil
}
