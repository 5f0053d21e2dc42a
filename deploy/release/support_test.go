package release

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// TestTheSupportedVersionsOfKubernetes verifies that the support matrix and the chart name the versions that make matrix tests.
func TestTheSupportedVersionsOfKubernetes(t *testing.T) {
	components := filepath.Join("..", "..", "tests", "controlplane", "components")
	newest := regexp.MustCompile(`k8s.io/kubernetes v(1\.\d+)\.`).FindSubmatch(read(t, components, "go.mod"))
	if newest == nil {
		t.Fatal("the components require no version of Kubernetes")
	}
	tested := []string{string(newest[1])}
	older, err := filepath.Glob(filepath.Join(components, "go-*.mod"))
	must(t, err)
	for _, path := range older {
		tested = append(tested, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "go-"), ".mod"))
	}
	slices.Sort(tested)

	row := fmt.Sprintf("| Kubernetes | %s |\n", strings.Join(tested, ", "))
	if !strings.Contains(string(read(t, "..", "..", "docs", "installation.md")), row) {
		t.Errorf("docs/installation.md does not have the row %q", row)
	}
	chart, err := loader.LoadDir(filepath.Join("..", "chart"))
	must(t, err)
	if want := fmt.Sprintf(">=%s.0-0", tested[0]); chart.Metadata.KubeVersion != want {
		t.Errorf("the chart accepts %s, want %s", chart.Metadata.KubeVersion, want)
	}
}
