// Command image builds the operator's image, without a container runtime: "make image" and "make push" run it.
//
//	image [flags]                          builds the image into files
//	image [flags] push REGISTRY/NAME:TAG   does that and pushes it
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
	out := flags.String("out", "bin/image", "the folder for what is built")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "what to build for, separated by commas")
	tags := flags.String("tags", "", "build tags")
	version := flags.String("version", "development", "the version of the operator")
	revision := flags.String("revision", "", "the commit that is built; not said in the image if empty")
	created := flags.Int64("created", 0, "the time that the image and its files get, in seconds since 1970: that of the commit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	destination, err := parseDestination(flags.Args()) // before minutes of building
	if err != nil {
		return err
	}
	release := image.OperatorRelease("", *tags, *version, *revision, time.Unix(*created, 0))
	for _, s := range strings.Split(*platforms, ",") {
		platform, err := image.ParsePlatform(s)
		if err != nil {
			return err
		}
		release.Platforms = append(release.Platforms, platform)
	}
	index, err := release.Build(ctx, *out)
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

// parseDestination is nil when nothing is to be pushed.
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

// write puts the image into an OCI layout with all platforms, and into an archive for the container runtime of this machine.
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
