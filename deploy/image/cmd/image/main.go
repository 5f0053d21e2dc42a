// Command image builds the image of the operator without a container runtime. "make image" and "make push" run it.
//
//	image [flags]                          build the image and write it to files
//	image [flags] push REGISTRY/NAME:TAG   build the image, write it to files and push it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("out", "bin/image", "folder for the programs and the images")
	list := flags.String("platforms", "linux/amd64,linux/arm64", "platforms to build for, separated by commas or spaces")
	tags := flags.String("tags", "", "build tags")
	version := flags.String("version", "development", "version of the operator")
	revision := flags.String("revision", "", "commit of the source; if empty, the image has no label for it")
	created := flags.Int64("created", 0, "time of the image and its files, in seconds since 1970; use the time of the commit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	destination, err := parseDestination(flags.Args()) // check the arguments before the build, which takes minutes
	if err != nil {
		return err
	}
	platforms, err := image.ParsePlatforms(*list)
	if err != nil {
		return fmt.Errorf("IMAGE_PLATFORMS: %w", err)
	}
	index, err := image.OperatorRelease("", *tags, *version, *revision, time.Unix(*created, 0), platforms...).Build(ctx, *out)
	if err != nil {
		return err
	}
	if err := write(*out, *version, index, stdout); err != nil {
		return err
	}
	if destination == nil {
		return nil
	}
	digest, err := image.Push(ctx, *destination, index)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, digest)
	return err
}

// parseDestination returns the destination of the push; nil if the arguments ask for no push.
func parseDestination(args []string) (*name.Tag, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case args[0] != "push" || len(args) > 2:
		return nil, fmt.Errorf("unexpected arguments %q: only \"push REGISTRY/NAME:TAG\" may follow the flags", args)
	}
	reference := strings.Join(args[1:], "")
	tag, err := image.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("%w: run \"make push IMAGE=REGISTRY/NAME:TAG\"", err)
	}
	return &tag, nil
}

// write writes all platforms to an OCI layout, and the platform of this machine to an archive for its container runtime.
func write(out, version string, index v1.ImageIndex, stdout io.Writer) error {
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("compute the digest of the image: %w", err)
	}
	oci := filepath.Join(out, "oci")
	if err := image.WriteLayout(oci, version, index); err != nil {
		return err
	}
	here := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	archive := filepath.Join(out, "docker.tar")
	img, err := image.ForPlatform(index, here)
	if err != nil {
		return fmt.Errorf("write %s for the platform of this machine: %w", archive, err)
	}
	reference := image.Operator + ":" + version
	if err := image.WriteArchive(archive, reference, img); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: OCI layout, %s\n%s: docker archive, %s for %s\n", oci, digest, archive, reference, here)
	return err
}
