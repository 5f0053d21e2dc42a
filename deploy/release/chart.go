package release

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"sigs.k8s.io/yaml"
)

// iconFile is the file of the release with the icon of the chart.
const iconFile = "icon.svg"

// packageChart writes the chart with the version, the image and the addresses of the release, and its icon.
func (r Release) packageChart(dir string) error {
	loaded, err := loader.LoadDir(filepath.Join(r.Root, "deploy", "chart"))
	if err != nil {
		return fmt.Errorf("read the chart: %w", err)
	}
	if err := r.describe(loaded.Metadata); err != nil {
		return err
	}
	if err := setImage(loaded, r.ImageRepository); err != nil {
		return err
	}
	loaded.StampModTimes(r.Source.Created)
	if _, err := chartutil.Save(loaded, dir); err != nil {
		return fmt.Errorf("package the chart: %w", err)
	}
	icon, err := os.ReadFile(filepath.Join(r.Root, "deploy", "release", iconFile))
	if err != nil {
		return fmt.Errorf("read the icon of the chart: %w", err)
	}
	return writeContent(filepath.Join(dir, iconFile), icon)
}

// chartArchive returns the name of the file with the chart.
func (r Release) chartArchive() string { return chartName + "-" + r.Version.Number() + ".tgz" }

// describe sets what depends on the release in Chart.yaml. The appVersion is the tag of the image.
func (r Release) describe(metadata *chart.Metadata) error {
	images, err := yaml.Marshal([]map[string]string{{"name": chartName, "image": r.ImageRepository + ":" + string(r.Version)}})
	if err != nil {
		return fmt.Errorf("describe the image of the chart: %w", err)
	}
	metadata.Version, metadata.AppVersion = r.Version.Number(), string(r.Version)
	metadata.Home, metadata.Sources = r.SourceURL, []string{r.SourceURL}
	metadata.Icon = r.DownloadURL + "/" + iconFile
	metadata.Annotations["artifacthub.io/images"] = string(images)
	metadata.Annotations["artifacthub.io/prerelease"] = strconv.FormatBool(r.Version.IsPrerelease())
	return nil
}

// setImage sets the default of image.repository in values.yaml, and keeps its comments.
func setImage(loaded *chart.Chart, repository string) error {
	before, after := []byte("\n  repository: "+chartName+"\n"), []byte("\n  repository: "+repository+"\n")
	for _, raw := range loaded.Raw {
		if raw.Name != chartutil.ValuesfileName {
			continue
		}
		if bytes.Count(raw.Data, before) != 1 {
			return fmt.Errorf("%s does not have the line %q exactly once", raw.Name, bytes.TrimSpace(before))
		}
		raw.Data = bytes.Replace(raw.Data, before, after, 1)
		return nil
	}
	return fmt.Errorf("the chart has no %s", chartutil.ValuesfileName)
}
