// Command image makes the operator's container image from its executables, and pushes it. See the targets image and push of
// the Makefile.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "bin/image", "the `folder` of the image: oci is an OCI layout, docker.tar an archive for docker load")
	var metadata image.Metadata
	flag.StringVar(&metadata.Version, "version", "", "the version of the operator")
	flag.StringVar(&metadata.Revision, "revision", "", "the commit that the executables were built from")
	created := flag.Int64("created", 0, "the time of that commit, in `seconds` since 1970")
	push := flag.String("push", "", "push the image from the folder to this `reference`, REGISTRY/NAME:TAG, instead of making it")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: image [flags] OS/ARCHITECTURE=EXECUTABLE...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *push != "" {
		return pushFrom(*dir, *push)
	}
	metadata.Created = time.Unix(*created, 0)
	executables := map[string]string{}
	for _, argument := range flag.Args() {
		platform, executable, found := strings.Cut(argument, "=")
		if !found {
			return fmt.Errorf("the argument %q has to be OS/ARCHITECTURE=EXECUTABLE", argument)
		}
		executables[platform] = executable
	}
	if len(executables) == 0 {
		return errors.New("no executable: name at least one as OS/ARCHITECTURE=EXECUTABLE")
	}
	return makeIn(*dir, executables, metadata)
}

// makeIn writes the image as an OCI layout, and that of this machine's architecture as an archive.
func makeIn(dir string, executables map[string]string, metadata image.Metadata) error {
	index, err := image.Index(executables, metadata)
	if err != nil {
		return err
	}
	if err := image.WriteLayout(filepath.Join(dir, "oci"), index); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("reading the digest: %w", err)
	}
	fmt.Printf("%s: %s\n", filepath.Join(dir, "oci"), digest)
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	executable, found := executables[platform.String()]
	if !found {
		return nil
	}
	own, err := image.Operator(platform, executable, metadata)
	if err != nil {
		return err
	}
	archive, reference := filepath.Join(dir, "docker.tar"), image.Executable+":"+metadata.Version
	if err := image.WriteArchive(archive, reference, own); err != nil {
		return err
	}
	fmt.Printf("%s: %s for %s\n", archive, reference, platform)
	return nil
}

func pushFrom(dir, reference string) error {
	index, err := image.ReadLayout(filepath.Join(dir, "oci"))
	if err != nil {
		return fmt.Errorf("%w: run \"make image\" first", err)
	}
	pushed, err := image.Push(reference, index)
	if err != nil {
		return err
	}
	fmt.Println(pushed)
	return nil
}
