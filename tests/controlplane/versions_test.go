package controlplane

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// versionBuilt returns the Kubernetes version that a go.mod of the components requires. The Makefile links this version into them.
func versionBuilt(t *testing.T, mod string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("components", mod))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if version, found := strings.CutPrefix(strings.TrimSpace(line), "k8s.io/kubernetes "); found {
			return version
		}
	}
	t.Fatalf("components/%s does not require k8s.io/kubernetes", mod)
	return ""
}

// TestTheSupportedVersionsAreThoseOfTheMatrix verifies that the README and the chart promise exactly the versions of make matrix.
func TestTheSupportedVersionsAreThoseOfTheMatrix(t *testing.T) {
	mods, err := filepath.Glob(filepath.Join("components", "go*.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var minors []string
	for _, mod := range mods {
		name := filepath.Base(mod)
		minor := regexp.MustCompile(`^v(\d+\.\d+)\.`).FindStringSubmatch(versionBuilt(t, name))
		if minor == nil || (name != "go.mod" && name != "go-"+minor[1]+".mod") {
			t.Fatalf("components/%s requires Kubernetes %s", name, versionBuilt(t, name))
		}
		minors = append(minors, minor[1])
	}
	slices.Sort(minors)
	newest := len(minors) - 1

	promise := "Kubernetes " + strings.Join(minors[:newest], ", ") + " and " + minors[newest] + " are supported"
	if readme := read(t, "README.md"); !strings.Contains(readme, promise) {
		t.Errorf("the README does not contain %q", promise)
	} else if built := "kubectl " + strings.TrimPrefix(versionBuilt(t, "go.mod"), "v") + " are built"; !strings.Contains(readme, built) {
		t.Errorf("the README does not contain %q", built)
	}
	if oldest := `kubeVersion: ">=` + minors[0] + `.0-0"`; !strings.Contains(read(t, "deploy/chart/Chart.yaml"), oldest) {
		t.Errorf("Chart.yaml does not contain %s", oldest)
	}
}

// read returns the content of a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
