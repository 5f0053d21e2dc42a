package release

import (
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// bundleFile is the name of the manifest that kubectl installs.
const bundleFile = "install.yaml"

// writeBundle writes what "kubectl apply -k deploy" installs, with the image of the release, as one manifest.
func (r Release) writeBundle(work, dir string, digest v1.Hash) error {
	deploy := filepath.Join(work, "deploy")
	if err := os.CopyFS(deploy, os.DirFS(filepath.Join(r.Root, "deploy"))); err != nil {
		return fmt.Errorf("copy deploy: %w", err)
	}
	if err := r.setBundleImage(filepath.Join(deploy, "manager", "kustomization.yaml"), digest); err != nil {
		return err
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), deploy)
	if err != nil {
		return fmt.Errorf("build %s: %w", bundleFile, err)
	}
	content, err := resources.AsYaml()
	if err != nil {
		return fmt.Errorf("build %s: %w", bundleFile, err)
	}
	header := fmt.Sprintf("# mcpserver-operator %s. Install it with: kubectl apply --server-side -f %s\n", r.Version, bundleFile)
	return writeContent(filepath.Join(dir, bundleFile), append([]byte(header), content...))
}

// setBundleImage sets the image in a kustomization. The digest makes sure that the image is the one of this release.
func (r Release) setBundleImage(path string, digest v1.Hash) error {
	content, err := os.ReadFile(path) //nolint:gosec // It is in the copy of deploy.
	if err != nil {
		return fmt.Errorf("read the kustomization of the image: %w", err)
	}
	var kustomization types.Kustomization
	if err := yaml.UnmarshalStrict(content, &kustomization); err != nil {
		return fmt.Errorf("read the kustomization of the image: %w", err)
	}
	if len(kustomization.Images) != 1 {
		return fmt.Errorf("%s sets %d images, want 1", path, len(kustomization.Images))
	}
	operator := &kustomization.Images[0]
	operator.NewName, operator.NewTag, operator.Digest = r.ImageRepository, string(r.Version), digest.String()
	if content, err = yaml.Marshal(kustomization); err != nil {
		return fmt.Errorf("set the image in %s: %w", path, err)
	}
	return writeContent(path, content)
}
