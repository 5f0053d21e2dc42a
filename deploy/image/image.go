// Package image makes the operator's container image without a container runtime: static executables on nothing, for each
// platform. Equal executables and equal metadata make an image with an equal digest.
package image

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User is the user and the group that the operator runs as: the one that the Kubernetes community uses for nobody in
// particular. A number, because runAsNonRoot cannot be checked against a name.
const User = "65532:65532"

// Executable is the name of the operator's executable in the image.
const Executable = "mcpserver-operator"

// Metadata says what an image is and what it was made from.
type Metadata struct {
	// Version is what the executable prints with --version.
	Version string
	// Revision is the commit.
	Revision string
	// Created is the time of the commit, so that the image is the same whenever it is made.
	Created time.Time
}

// labels are the annotations that the OCI image specification defines, as far as they are known.
func (m Metadata) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       Executable,
		"org.opencontainers.image.description": "Runs Model Context Protocol servers as StatefulSets, and leaves their scale to whoever sets it.",
		"org.opencontainers.image.version":     m.Version,
		"org.opencontainers.image.revision":    m.Revision,
		"org.opencontainers.image.created":     m.Created.UTC().Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

// Operator returns the image of the operator for one platform, with its executable in a file. The image holds nothing else:
// the operator talks only to kube-apiserver, whose certificate authority each pod gets from Kubernetes.
func Operator(platform v1.Platform, executable string, metadata Metadata) (v1.Image, error) {
	return New(platform, metadata.Created, v1.Config{
		User: User, Entrypoint: []string{"/" + Executable}, Labels: metadata.labels(),
	}, File{Path: Executable, Source: executable})
}

// New returns an image of files for one platform.
func New(platform v1.Platform, created time.Time, config v1.Config, files ...File) (v1.Image, error) {
	layer, err := Layer(created, files...)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: created.UTC()}},
	})
	if err != nil {
		return nil, fmt.Errorf("adding the files to the image: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of the image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = platform.OS, platform.Architecture, platform.Variant
	file.Created, file.Config = v1.Time{Time: created.UTC()}, config
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return nil, fmt.Errorf("configuring the image: %w", err)
	}
	return image, nil
}

// Index returns the index of the operator's image, with the executables by platform, such as linux/amd64.
func Index(executables map[string]string, metadata Metadata) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range slices.Sorted(maps.Keys(executables)) {
		parsed, err := v1.ParsePlatform(platform)
		if err != nil {
			return nil, fmt.Errorf("reading the platform %q: %w", platform, err)
		}
		image, err := Operator(*parsed, executables[platform], metadata)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: parsed}})
	}
	return mutate.Annotations(index, metadata.labels()).(v1.ImageIndex), nil
}

// WriteLayout writes an index as an OCI layout into a folder, in place of what is there.
func WriteLayout(dir string, index v1.ImageIndex) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the former image: %w", err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendIndex(index)
	}
	if err != nil {
		return fmt.Errorf("writing the image to %s: %w", dir, err)
	}
	return nil
}

// ReadLayout reads what WriteLayout has written.
func ReadLayout(dir string) (v1.ImageIndex, error) {
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the image from %s: %w", dir, err)
	}
	outer, err := path.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("reading the image from %s: %w", dir, err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the image from %s: %w", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s holds %d images, and has to hold 1", dir, len(manifest.Manifests))
	}
	return outer.ImageIndex(manifest.Manifests[0].Digest)
}

// WriteArchive writes an image under a name to a file that docker load and ctr images import read.
func WriteArchive(file, reference string, image v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("reading the name of the image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("making the folder of the archive: %w", err)
	}
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return fmt.Errorf("writing the image to %s: %w", file, err)
	}
	return nil
}

// Push writes an index to a registry, with the credentials that docker login has stored, and returns the reference by digest.
func Push(reference string, index v1.ImageIndex) (string, error) {
	tag, err := name.ParseReference(reference)
	if err != nil {
		return "", fmt.Errorf("%q is not the name of an image such as REGISTRY/NAME:TAG: %w", reference, err)
	}
	if err := remote.WriteIndex(tag, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("pushing %s: %w", reference, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("reading the digest: %w", err)
	}
	return tag.Context().Digest(digest.String()).String(), nil
}
