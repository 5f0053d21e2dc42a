package release

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"helm.sh/helm/v4/pkg/registry"

	"mcpserver-operator/deploy/image"
)

// Push pushes the image and the chart in the folder dir, with the credentials of "docker login". It pushes the files that Build wrote, and fails
// if one of them has changed. It returns the references by digest.
func (r Release) Push(ctx context.Context, dir string) ([]string, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if err := verifySums(dir); err != nil {
		return nil, err
	}
	if err := r.verifyAddresses(dir); err != nil {
		return nil, err
	}
	pushedImage, err := r.pushImage(ctx, filepath.Join(dir, r.imageArchive()))
	if err != nil {
		return nil, err
	}
	pushedChart, err := r.pushChart(ctx, filepath.Join(dir, r.chartArchive()))
	if err != nil {
		return nil, err
	}
	return []string{pushedImage, pushedChart}, nil
}

// verifyAddresses fails if the files in dir were built for other addresses: the chart and the bundle name the image.
func (r Release) verifyAddresses(dir string) error {
	content, err := os.ReadFile(filepath.Join(dir, provenanceFile)) //nolint:gosec // The maintainer who makes the release names the folder.
	if err != nil {
		return fmt.Errorf("read the provenance of %s: %w", r.Version, err)
	}
	var statement struct {
		Predicate struct {
			BuildDefinition struct{ ExternalParameters map[string]string }
		}
	}
	if err := json.Unmarshal(content, &statement); err != nil {
		return fmt.Errorf("read the provenance of %s: %w", r.Version, err)
	}
	built := statement.Predicate.BuildDefinition.ExternalParameters
	for variable, address := range map[string]string{"IMAGE_REPOSITORY": r.ImageRepository, "CHART_REGISTRY": r.ChartRegistry} {
		if built[variable] != address {
			return fmt.Errorf("%s is %q, but the files were built for %q: run make release again, or set %s to it", variable, address, built[variable], variable)
		}
	}
	return nil
}

// verifyNew fails if the registry has something else under a tag: what is released is not replaced.
func verifyNew(ctx context.Context, tag name.Tag, isSame func(*remote.Descriptor) (bool, error)) error {
	there, err := remote.Get(tag, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if failure, is := errors.AsType[*transport.Error](err); is && failure.StatusCode == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", tag, err)
	}
	same, err := isSame(there)
	if err != nil {
		return fmt.Errorf("read %s: %w", tag, err)
	}
	if !same {
		return fmt.Errorf("%s exists already and is another one: a release is not replaced. Choose another version", tag)
	}
	return nil
}

func (r Release) pushImage(ctx context.Context, archive string) (string, error) {
	to, err := image.ParseReference(r.ImageRepository + ":" + string(r.Version))
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "release-image-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the image: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := extract(archive, dir); err != nil {
		return "", fmt.Errorf("read the image of %s: %w", r.Version, err)
	}
	index, err := readIndex(dir)
	if err != nil {
		return "", fmt.Errorf("read the image of %s: %w", r.Version, err)
	}
	wanted, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("read the image of %s: %w", r.Version, err)
	}
	if err := verifyNew(ctx, to, func(there *remote.Descriptor) (bool, error) { return there.Digest == wanted, nil }); err != nil {
		return "", err
	}
	digest, err := image.Push(ctx, to, index)
	if err != nil {
		return "", err
	}
	return digest.String(), nil
}

// extract extracts the files of a tar archive into dir.
func extract(archive, dir string) error {
	content, _, err := open(archive)
	if err != nil {
		return err
	}
	defer content.Close()
	root, err := os.OpenRoot(dir) // an archive cannot write outside of a root
	if err != nil {
		return err
	}
	defer root.Close()
	for in := tar.NewReader(content); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := root.MkdirAll(filepath.Dir(header.Name), 0o755); err != nil {
			return err
		}
		out, err := root.Create(header.Name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in) //nolint:gosec // The checksum of the archive is known: it is no decompression bomb.
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}

// readIndex returns the only index of an image layout.
func readIndex(dir string) (v1.ImageIndex, error) {
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("the layout has %d images, want 1", len(manifest.Manifests))
	}
	return root.ImageIndex(manifest.Manifests[0].Digest)
}

// pushChart pushes the chart as helm push does. Helm requires the name of the chart as the last part of the path, and its version as the tag.
func (r Release) pushChart(ctx context.Context, archive string) (string, error) {
	content, err := os.ReadFile(archive) //nolint:gosec // The maintainer who makes the release names the folder.
	if err != nil {
		return "", fmt.Errorf("read the chart of %s: %w", r.Version, err)
	}
	repository, err := name.NewRepository(strings.TrimPrefix(r.ChartRegistry, registry.OCIScheme+"://")+"/"+chartName, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("push the chart: %w", err)
	}
	wanted, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return "", fmt.Errorf("read the chart of %s: %w", r.Version, err)
	}
	err = verifyNew(ctx, repository.Tag(r.Version.Number()), func(there *remote.Descriptor) (bool, error) {
		manifest, err := v1.ParseManifest(bytes.NewReader(there.Manifest))
		return err == nil && slices.ContainsFunc(manifest.Layers, func(layer v1.Descriptor) bool { return layer.Digest == wanted }), err
	})
	if err != nil {
		return "", err
	}
	options := []registry.ClientOption{registry.ClientOptWriter(io.Discard)}
	if repository.Scheme() == "http" { // a registry on this machine, for tests
		options = append(options, registry.ClientOptPlainHTTP())
	}
	client, err := registry.NewClient(options...)
	if err != nil {
		return "", fmt.Errorf("push the chart: %w", err)
	}
	result, err := client.Push(content, repository.Name()+":"+r.Version.Number(),
		registry.PushOptCreationTime(r.Source.Created.Format(time.RFC3339)))
	if err != nil {
		return "", fmt.Errorf("push the chart to %s: %w", repository, err)
	}
	return repository.Name() + "@" + result.Manifest.Digest, nil
}
