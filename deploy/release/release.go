// Package release builds the files of a release into one folder, and pushes the image and the chart of this folder to registries.
//
// The files depend only on the sources, on the version of Go, and on the fields of [Release]: two builds give the same bytes. Nothing is signed.
package release

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"helm.sh/helm/v4/pkg/registry"

	"mcpserver-operator/deploy/image"
)

const (
	// chartName is the name of the chart.
	chartName = "mcpserver-operator"
	// licenses is the license of the operator, as an SPDX expression.
	licenses = "Apache-2.0"
)

// Release describes what is built, and where the files are published.
type Release struct {
	// Root is the folder of the sources.
	Root    string
	Version Version
	Source  Source
	// Tags are the build tags of the programs, separated by commas.
	Tags string
	// ImagePlatforms and PluginPlatforms are the platforms of the image and of the kubectl plugin.
	ImagePlatforms, PluginPlatforms []v1.Platform
	Addresses
}

// Source identifies the sources.
type Source struct {
	// Revision is the commit, with 40 digits.
	Revision string
	// Created is the time of the commit. It is the time of every file of the release.
	Created time.Time
}

// Addresses are the places where the files are published.
type Addresses struct {
	// ImageRepository is the registry and the name of the image, without a tag.
	ImageRepository string
	// ChartRegistry is the address below which the chart is pushed under its name, such as oci://registry.example.com/charts.
	ChartRegistry string
	// SourceURL is the address of the repository of the sources.
	SourceURL string
	// DownloadURL is the address below which the files of the release can be downloaded.
	DownloadURL string
}

// Validate returns an error for each address that is missing or wrong. Each error names the variable of make.
func (a Addresses) Validate() error {
	errs := []error{
		about("IMAGE_REPOSITORY", checkRepository(a.ImageRepository)),
		about("CHART_REGISTRY", checkChartRegistry(a.ChartRegistry)),
		about("SOURCE_URL", checkURL(a.SourceURL)),
	}
	if a.SourceURL != "" { // its default depends on SOURCE_URL
		errs = append(errs, about("DOWNLOAD_URL", checkURL(a.DownloadURL)))
	}
	return errors.Join(errs...)
}

func about(variable string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", variable, err)
}

func checkRepository(repository string) error {
	const form = "it must be REGISTRY/NAME without a tag, such as registry.example.com/mcpserver-operator"
	if repository == "" {
		return errors.New("not set: " + form)
	}
	if _, err := name.NewRepository(repository, name.StrictValidation); err != nil {
		return fmt.Errorf("%q does not name an image in a registry: %s: %w", repository, form, err)
	}
	return nil
}

func checkChartRegistry(address string) error {
	const form = "it must be oci://REGISTRY or oci://REGISTRY/PATH, such as oci://registry.example.com/charts"
	if address == "" {
		return errors.New("not set: " + form)
	}
	path, isOCI := strings.CutPrefix(address, registry.OCIScheme+"://")
	if !isOCI {
		return fmt.Errorf("%q has no oci://: %s", address, form)
	}
	if _, err := name.NewRepository(path+"/"+chartName, name.StrictValidation); err != nil {
		return fmt.Errorf("%q does not name a registry: %s: %w", address, form, err)
	}
	return nil
}

func checkURL(address string) error {
	const form = "it must be an address such as https://git.example.com/team/mcpserver-operator"
	if address == "" {
		return errors.New("not set: " + form)
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%s: %w", form, err)
	}
	if (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.Host == "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("%q is not the address of a page: %s", address, form)
	}
	return nil
}

// Build builds the files of the release into the folder dir. It deletes the old content of dir.
func (r Release) Build(ctx context.Context, dir string) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if err := checkChangelog(r.Root, r.Version); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the old release: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // The files of a release are public.
		return fmt.Errorf("make the folder of the release: %w", err)
	}
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return fmt.Errorf("make a folder for the programs: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()

	programs, digest, err := r.buildImage(ctx, work, dir)
	if err != nil {
		return err
	}
	plugins, err := r.buildPlugins(ctx, work, dir)
	if err != nil {
		return err
	}
	if err := r.writeKrewManifest(dir); err != nil {
		return err
	}
	if err := r.writeBundle(work, dir, digest); err != nil {
		return err
	}
	if err := r.packageChart(dir); err != nil {
		return err
	}
	if err := r.writeSBOMs(ctx, append(programs, plugins...), dir); err != nil {
		return err
	}
	if err := r.writeProvenance(ctx, dir, digest); err != nil {
		return err
	}
	if err := writeSums(dir); err != nil {
		return err
	}
	return setTimes(dir, r.Source.Created)
}

// setTimes sets the time of all files in dir.
func setTimes(dir string, to time.Time) error {
	files, err := filesBelow(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Chtimes(f.source, to, to); err != nil {
			return fmt.Errorf("set the time of a file of the release: %w", err)
		}
	}
	return nil
}

// fileName returns the name of a file of the release that depends on the version.
func (r Release) fileName(program, rest string) string {
	return fmt.Sprintf("%s_%s_%s", program, r.Version, rest)
}

// program is an executable of the release.
type program struct {
	name     string
	platform v1.Platform
	path     string
}

// buildImage builds the image for all platforms, and writes it as an archive of an OCI image layout. It returns the programs in the image and
// the digest of the image.
func (r Release) buildImage(ctx context.Context, work, dir string) ([]program, v1.Hash, error) {
	built := image.OperatorRelease(r.Root, r.Tags, string(r.Version), r.Source.Revision, r.Source.Created, r.ImagePlatforms...)
	binaries := filepath.Join(work, "image")
	index, err := built.Build(ctx, binaries)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, v1.Hash{}, fmt.Errorf("compute the digest of the image: %w", err)
	}
	layout := filepath.Join(work, "layout")
	if err := image.WriteLayout(layout, string(r.Version), index); err != nil {
		return nil, v1.Hash{}, err
	}
	files, err := filesBelow(layout)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	if err := writeFile(filepath.Join(dir, r.imageArchive()), tarOf(files, r.Source.Created)); err != nil {
		return nil, v1.Hash{}, err
	}
	var programs []program
	for _, platform := range r.ImagePlatforms {
		for name := range built.Programs {
			programs = append(programs, program{name, platform, filepath.Join(binaries, folderOf(platform), name)})
		}
	}
	return programs, digest, nil
}

// imageArchive returns the name of the file with the image.
func (r Release) imageArchive() string { return r.fileName(image.Operator, "image.tar") }

// folderOf returns the platform as a part of the name of a folder.
func folderOf(platform v1.Platform) string { return platform.OS + "-" + platform.Architecture }
