package image

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// WriteLayout writes the index and its images to the folder dir as an OCI image layout. It deletes the old content of dir. The
// tag is the name of the index for tools that read layouts.
func WriteLayout(dir, tag string, index v1.ImageIndex) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the old image layout: %w", err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the image layout %s: %w", dir, err)
	}
	annotations := map[string]string{"org.opencontainers.image.ref.name": tag}
	if err := path.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return fmt.Errorf("write the image layout %s: %w", dir, err)
	}
	return nil
}

// WriteArchive writes the image to a file for "docker load", "podman load" and "ctr images import". These commands name the
// image by reference, such as probe:v1.
func WriteArchive(file, reference string, img v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("name the image in %s: %w", file, err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		return fmt.Errorf("write the image %s to %s: %w", reference, file, err)
	}
	return nil
}
