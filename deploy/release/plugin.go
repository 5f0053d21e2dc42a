package release

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/krew/pkg/constants"
	"sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/deploy/image"
)

const (
	pluginProgram    = "kubectl-mcpserver"
	pluginCompletion = "kubectl_complete-mcpserver"
	// krewName is the name of the plugin: "kubectl mcpserver".
	krewName = "mcpserver"
)

// buildPlugins builds the kubectl plugin for all platforms, and writes an archive for each.
func (r Release) buildPlugins(ctx context.Context, work, dir string) ([]program, error) {
	plugin := image.Program{Dir: r.Root, Package: "./plugin", Tags: r.Tags, Version: string(r.Version)}
	var programs []program
	for _, platform := range r.PluginPlatforms {
		binary := filepath.Join(work, "plugin", folderOf(platform), executable(platform))
		if err := plugin.Build(ctx, platform, binary); err != nil {
			return nil, err
		}
		if err := r.archivePlugin(platform, binary, dir); err != nil {
			return nil, err
		}
		programs = append(programs, program{pluginProgram, platform, binary})
	}
	return programs, nil
}

// executable returns the name of the file of the plugin.
func executable(platform v1.Platform) string {
	if platform.OS == "windows" {
		return pluginProgram + ".exe"
	}
	return pluginProgram
}

// archivePlugin writes the archive of the plugin for one platform. Windows gets a zip archive without the completion, which is a shell script.
func (r Release) archivePlugin(platform v1.Platform, binary, dir string) error {
	files := []file{
		{executable(platform), 0o755, binary},
		{"LICENSE", 0o644, filepath.Join(r.Root, "LICENSE")},
	}
	archive := zipOf
	if platform.OS != "windows" {
		files = append(files, file{pluginCompletion, 0o755, filepath.Join(r.Root, "plugin", pluginCompletion)})
		archive = tarGzOf
	}
	return writeFile(filepath.Join(dir, r.pluginArchive(platform)), archive(files, r.Source.Created))
}

// pluginArchive returns the name of the archive of the plugin for one platform.
func (r Release) pluginArchive(platform v1.Platform) string {
	extension := ".tar.gz"
	if platform.OS == "windows" {
		extension = ".zip"
	}
	return r.fileName(pluginProgram, platform.OS+"_"+platform.Architecture+extension)
}

// writeKrewManifest writes the manifest with which krew installs the plugin from the archives in dir.
func (r Release) writeKrewManifest(dir string) error {
	manifest := index.Plugin{
		TypeMeta:   metav1.TypeMeta{APIVersion: constants.CurrentAPIVersion, Kind: constants.PluginKind},
		ObjectMeta: metav1.ObjectMeta{Name: krewName},
		Spec: index.PluginSpec{
			Version:          string(r.Version),
			Homepage:         r.SourceURL,
			ShortDescription: "Show and move the owners of MCPServers' fields",
			Description: "Shows who owns the fields of the children of an MCPServer and of any other object, what the operator would do,\n" +
				"and moves ownership. It acts with your own permissions.\n",
			Caveats: "For completion, put " + pluginCompletion + " of the archive into a directory of your PATH.\n",
		},
	}
	platforms := slices.SortedFunc(slices.Values(r.PluginPlatforms), func(a, b v1.Platform) int { return cmp.Compare(a.String(), b.String()) })
	for _, platform := range platforms {
		archive := r.pluginArchive(platform)
		sum, err := sumOf(filepath.Join(dir, archive))
		if err != nil {
			return err
		}
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, index.Platform{
			URI:      r.DownloadURL + "/" + archive,
			Sha256:   sum,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"os": platform.OS, "arch": platform.Architecture}},
			Bin:      executable(platform),
		})
	}
	content, err := yaml.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("make the manifest for krew: %w", err)
	}
	return writeContent(filepath.Join(dir, krewName+constants.ManifestExtension), content)
}
