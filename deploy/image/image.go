// Package image builds container images without a container runtime. An image depends only on the list of its files and on its
// configuration. The same input gives the same digest in any folder, on any machine, at any time.
//
// The image of the operator is a [Release]. Each image of the tests is a [Spec].
package image

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec describes an image for one platform.
type Spec struct {
	// Config has the user, the entrypoint, the environment and the labels.
	v1.Config
	Platform v1.Platform
	// Created is the time of the image and of every file in it. It must be the same for two builds of the same image. It
	// must therefore not be the time of the build.
	Created time.Time
	Files   []File
}

// New returns the image, with all files in one layer. The source files are read again when the image is written. They must
// exist until then.
func New(spec Spec) (v1.Image, error) {
	created := v1.Time{Time: spec.Created.UTC()}
	layer, err := newLayer(spec.Files, created.Time)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS:           spec.Platform.OS,
		Architecture: spec.Platform.Architecture,
		Created:      created,
		Config:       spec.Config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, fmt.Errorf("configure the image: %w", err)
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:     layer,
		MediaType: types.OCILayer,
		History:   v1.History{Created: created, CreatedBy: strings.Join(spec.Entrypoint, " ")},
	})
	if err != nil {
		return nil, fmt.Errorf("add the files to the image: %w", err)
	}
	return img, nil
}
