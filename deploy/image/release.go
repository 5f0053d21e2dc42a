package image

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// user is the user and the group of the programs. They are numbers, because with runAsNonRoot the kubelet refuses a user name:
// it cannot check whether the name means root.
const user = "65532:65532"

// Release is an image of programs for several platforms.
//
// The image has only the programs. It has no shell. It has no CA certificates, because the operator connects only to the API
// server, and the CA of the API server is in the ServiceAccount volume of the pod. It has no /tmp, because the operator writes no
// files.
type Release struct {
	// Programs are the executables at the root of the image, by name. Entrypoint is the name of the program that runs.
	Programs   map[string]Program
	Entrypoint string
	Platforms  []v1.Platform
	About      About
}

// About has the values of the labels of the image. An empty value gets no label.
type About struct {
	Title       string
	Description string
	Version     string
	// Revision is the commit that the image is built from.
	Revision string
	// Licenses is an SPDX expression.
	Licenses string
	// Created is the time of the commit, not the time of the build: see Spec.
	Created time.Time
}

// Labels returns the labels of the images and the annotations of their index, as the OCI image specification defines them.
func (a About) Labels() map[string]string {
	labels := map[string]string{"org.opencontainers.image.created": a.Created.UTC().Format(time.RFC3339)}
	for name, value := range map[string]string{
		"title":       a.Title,
		"description": a.Description,
		"version":     a.Version,
		"revision":    a.Revision,
		"licenses":    a.Licenses,
	} {
		if value != "" {
			labels["org.opencontainers.image."+name] = value
		}
	}
	return labels
}

// Build compiles the programs into dir/OS-ARCHITECTURE/ and builds the images. The index has an image for each platform.
func (r Release) Build(ctx context.Context, dir string) (v1.ImageIndex, error) {
	if _, found := r.Programs[r.Entrypoint]; !found {
		return nil, fmt.Errorf("the entrypoint %q is none of the programs of the image", r.Entrypoint)
	}
	if len(r.Platforms) == 0 {
		return nil, fmt.Errorf("no platform to build %s for", r.Entrypoint)
	}
	platforms := slices.Clone(r.Platforms)
	slices.SortFunc(platforms, func(a, b v1.Platform) int { return cmp.Compare(a.String(), b.String()) })
	var index v1.ImageIndex = empty.Index
	for _, platform := range slices.CompactFunc(platforms, v1.Platform.Equals) {
		var files []File
		for _, name := range slices.Sorted(maps.Keys(r.Programs)) {
			binary := filepath.Join(dir, strings.ReplaceAll(platform.String(), "/", "-"), name)
			if err := r.Programs[name].Build(ctx, platform, binary); err != nil {
				return nil, err
			}
			files = append(files, Executable("/"+name, binary))
		}
		img, err := New(Spec{
			Config: v1.Config{
				User:       user,
				Entrypoint: []string{"/" + r.Entrypoint},
				Labels:     r.About.Labels(),
			},
			Platform: platform,
			Created:  r.About.Created,
			Files:    files,
		})
		if err != nil {
			return nil, fmt.Errorf("make the image for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return mutate.Annotations(index, r.About.Labels()).(v1.ImageIndex), nil
}

// ForPlatform returns the image for one platform from an index.
func ForPlatform(index v1.ImageIndex, platform v1.Platform) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the index of the image: %w", err)
	}
	var others []string
	for _, descriptor := range manifest.Manifests {
		if descriptor.Platform == nil {
			continue
		}
		if descriptor.Platform.Equals(platform) {
			return index.Image(descriptor.Digest)
		}
		others = append(others, descriptor.Platform.String())
	}
	return nil, fmt.Errorf("there is no image for %s, only for %s", platform, strings.Join(others, ", "))
}
