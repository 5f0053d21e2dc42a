package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intotov1 "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

var platforms = []v1.Platform{
	{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"},
	{OS: "darwin", Architecture: "amd64"}, {OS: "darwin", Architecture: "arm64"},
	{OS: "windows", Architecture: "amd64"}, {OS: "windows", Architecture: "arm64"},
}

var digest = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}

// testRelease returns a release of the sources of this repository. The test tests/clients/chart builds a whole release.
func testRelease() Release {
	return Release{
		Root:    "../..",
		Version: "v1.2.3-rc.1",
		Source: Source{
			Revision: "0123456789abcdef0123456789abcdef01234567",
			Created:  time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		},
		ImagePlatforms:  platforms[:1],
		PluginPlatforms: platforms,
		Addresses: Addresses{
			ImageRepository: "registry.example.com/mcpserver-operator",
			ChartRegistry:   "oci://registry.example.com/charts",
			SourceURL:       "https://git.example.com/team/mcpserver-operator",
			DownloadURL:     "https://git.example.com/team/mcpserver-operator/releases/download/v1.2.3-rc.1",
		},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return content
}

func TestAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Addresses)
		want   []string // empty if the addresses are valid
	}{
		"complete":               {func(*Addresses) {}, nil},
		"a registry at the root": {func(a *Addresses) { a.ChartRegistry = "oci://registry.example.com" }, nil},
		"none": {func(a *Addresses) { *a = Addresses{} },
			[]string{"IMAGE_REPOSITORY: not set", "CHART_REGISTRY: not set", "SOURCE_URL: not set"}},
		"an image with a tag":       {func(a *Addresses) { a.ImageRepository += ":v1" }, []string{"IMAGE_REPOSITORY", "without a tag"}},
		"an image without registry": {func(a *Addresses) { a.ImageRepository = "operator" }, []string{"IMAGE_REPOSITORY"}},
		"charts without a scheme":   {func(a *Addresses) { a.ChartRegistry = "registry.example.com" }, []string{"CHART_REGISTRY", "no oci://"}},
		"charts at no registry":     {func(a *Addresses) { a.ChartRegistry = "oci://Charts" }, []string{"CHART_REGISTRY"}},
		"sources without a scheme":  {func(a *Addresses) { a.SourceURL = "git.example.com/team" }, []string{"SOURCE_URL"}},
		"sources with a fragment":   {func(a *Addresses) { a.SourceURL += "#main" }, []string{"SOURCE_URL"}},
		"a download without a host": {func(a *Addresses) { a.DownloadURL = "https:///files" }, []string{"DOWNLOAD_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			addresses := testRelease().Addresses
			test.change(&addresses)
			err := addresses.Validate()
			if (err == nil) != (test.want == nil) {
				t.Fatalf("the error is %v", err)
			}
			for _, word := range test.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in %q", word, err)
				}
			}
		})
	}
}

// TestArchives verifies the files in the archives of the plugin. Windows cannot run the completion, which is a shell script.
func TestArchives(t *testing.T) {
	dir := t.TempDir()
	archiveStubs(t, testRelease(), dir)
	for _, platform := range platforms {
		got, want := modesOf(t, filepath.Join(dir, testRelease().pluginArchive(platform))), map[string]string{
			executable(platform): "-rwxr-xr-x", "LICENSE": "-rw-r--r--", pluginCompletion: "-rwxr-xr-x",
		}
		if platform.OS == "windows" {
			delete(want, pluginCompletion)
		}
		if !maps.Equal(got, want) {
			t.Errorf("the archive for %s has %v, want %v", platform, got, want)
		}
	}
}

// archiveStubs writes the archives of the plugin for all platforms, with a file instead of the program.
func archiveStubs(t *testing.T, r Release, dir string) {
	t.Helper()
	for _, platform := range r.PluginPlatforms {
		binary := filepath.Join(t.TempDir(), executable(platform))
		must(t, os.WriteFile(binary, []byte("the program for "+platform.String()), 0o600))
		must(t, r.archivePlugin(platform, binary, dir))
	}
}

// modesOf returns the permissions of the files in an archive by name.
func modesOf(t *testing.T, path string) map[string]string {
	t.Helper()
	modes := map[string]string{}
	content := read(t, path)
	if strings.HasSuffix(path, ".zip") {
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		must(t, err)
		for _, f := range archive.File {
			modes[f.Name] = f.Mode().String()
		}
		return modes
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	must(t, err)
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return modes
		}
		must(t, err)
		modes[header.Name] = header.FileInfo().Mode().String()
	}
}

// TestKrewInstallsThePluginOnEachPlatform verifies the manifest with krew's own validator. It downloads the archive for each platform, compares the
// checksum, installs the plugin, and requires a license.
func TestKrewInstallsThePluginOnEachPlatform(t *testing.T) {
	r, dir, tools := testRelease(), t.TempDir(), t.TempDir()
	files := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer files.Close()
	r.DownloadURL = files.URL
	archiveStubs(t, r, dir)
	must(t, r.writeKrewManifest(dir))

	build := exec.CommandContext(t.Context(), "go", "build", "-o", tools+"/", "sigs.k8s.io/krew/cmd/krew", "sigs.k8s.io/krew/cmd/validate-krew-manifest")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build krew: %v: %s", err, out)
	}
	// The validator runs "kubectl krew install", and kubectl would run its plugin krew.
	must(t, os.WriteFile(filepath.Join(tools, "kubectl"), []byte("#!/bin/sh\nshift\nexec \"$(dirname \"$0\")/krew\" \"$@\"\n"), 0o700))
	validate := exec.CommandContext(t.Context(), filepath.Join(tools, "validate-krew-manifest"), "-manifest="+filepath.Join(dir, "mcpserver.yaml"))
	validate.Env = append(os.Environ(), "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := validate.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("all 6 spec.platforms installed fine")) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTheChartOfTheRelease verifies what depends on the release in the chart, and that helm lint --strict accepts it.
func TestTheChartOfTheRelease(t *testing.T) {
	r, dir := testRelease(), t.TempDir()
	must(t, r.packageChart(dir))
	archive := filepath.Join(dir, "mcpserver-operator-1.2.3-rc.1.tgz")
	packaged, err := loader.LoadFile(archive)
	must(t, err)
	metadata := packaged.Metadata
	for name, values := range map[string][2]string{
		"version":    {metadata.Version, "1.2.3-rc.1"},
		"appVersion": {metadata.AppVersion, "v1.2.3-rc.1"},
		"home":       {metadata.Home, r.SourceURL},
		"sources":    {strings.Join(metadata.Sources, " "), r.SourceURL},
		"icon":       {metadata.Icon, r.DownloadURL + "/icon.svg"},
		"prerelease": {metadata.Annotations["artifacthub.io/prerelease"], "true"},
		"images":     {metadata.Annotations["artifacthub.io/images"], "- image: registry.example.com/mcpserver-operator:v1.2.3-rc.1\n  name: mcpserver-operator\n"},
		"repository": {packaged.Values["image"].(map[string]any)["repository"].(string), r.ImageRepository},
	} {
		if values[0] != values[1] {
			t.Errorf("%s is %q, want %q", name, values[0], values[1])
		}
	}
	if len(read(t, dir, "icon.svg")) == 0 {
		t.Error("the icon is empty")
	}
	lint := action.NewLint()
	lint.Strict = true
	if result := lint.Run([]string{archive}, nil); len(result.Errors) > 0 {
		t.Errorf("helm lint: %v: %v", result.Errors, result.Messages)
	}
}

// TestTheBundleOfTheRelease verifies that the operator and the runner have the image of the release, by digest, and that the manifest differs
// from kubectl kustomize deploy in nothing else.
func TestTheBundleOfTheRelease(t *testing.T) {
	r, dir := testRelease(), t.TempDir()
	must(t, r.writeBundle(t.TempDir(), dir, digest))
	bundle := string(read(t, dir, "install.yaml"))
	image := "registry.example.com/mcpserver-operator:v1.2.3-rc.1@" + digest.String()
	for _, line := range []string{"image: " + image, "--runner-image=" + image} {
		if strings.Count(bundle, line) != 1 {
			t.Errorf("%q is not in the manifest exactly once", line)
		}
	}
	if strings.Contains(bundle, "mcpserver-operator:latest") {
		t.Error("the manifest has the image of the sources")
	}
}

// TestTheSameBytes verifies that the files depend neither on the folder of the sources, the times of its files, nor on the time zone.
func TestTheSameBytes(t *testing.T) {
	build := func(root string) []sum {
		r, dir := testRelease(), t.TempDir()
		r.Root = root
		archiveStubs(t, r, dir)
		must(t, r.writeKrewManifest(dir))
		must(t, r.packageChart(dir))
		must(t, r.writeBundle(t.TempDir(), dir, digest))
		must(t, r.writeProvenance(t.Context(), dir, digest))
		sums, err := sumsOf(dir)
		must(t, err)
		return sums
	}
	here := testRelease().Root
	one := build(here)

	copied := t.TempDir()
	for _, folder := range []string{"deploy", "plugin"} {
		must(t, os.CopyFS(filepath.Join(copied, folder), os.DirFS(filepath.Join(here, folder))))
	}
	for _, file := range []string{"LICENSE", "go.mod"} {
		must(t, os.WriteFile(filepath.Join(copied, file), read(t, here, file), 0o600))
	}
	t.Setenv("TZ", "Asia/Tokyo")
	if two := build(copied); !slices.Equal(one, two) {
		t.Errorf("two builds differ:\n%v\n%v", one, two)
	}
}

// TestTheProvenance verifies that the provenance names the commit, and every file with its checksum.
func TestTheProvenance(t *testing.T) {
	r, dir := testRelease(), t.TempDir()
	archiveStubs(t, r, dir)
	files, err := sumsOf(dir)
	must(t, err)
	must(t, r.writeProvenance(t.Context(), dir, digest))

	statement := &intotov1.Statement{}
	must(t, protojson.Unmarshal(read(t, dir, provenanceFile), statement))
	must(t, statement.Validate())
	named := map[string]string{}
	for _, subject := range statement.Subject {
		named[subject.Name] = subject.Digest["sha256"]
	}
	want := map[string]string{"registry.example.com/mcpserver-operator:v1.2.3-rc.1": digest.Hex}
	for _, s := range files {
		want[s.name] = s.sha256
	}
	if !maps.Equal(named, want) {
		t.Errorf("the subjects are %v, want %v", named, want)
	}
	content, err := json.Marshal(statement.Predicate)
	must(t, err)
	provenance := &provenancev1.Provenance{}
	must(t, protojson.Unmarshal(content, provenance))
	must(t, provenance.Validate())
	if from := provenance.BuildDefinition.ResolvedDependencies[0]; from.Digest["gitCommit"] != r.Source.Revision || from.Uri != "git+"+r.SourceURL {
		t.Errorf("the sources are %v", from)
	}
	if version := provenance.BuildDefinition.InternalParameters.Fields["go"].GetStringValue(); !strings.HasPrefix(version, "go1.") {
		t.Errorf("the version of Go is %q", version)
	}
}

// TestPushRefusesOtherFiles verifies that only the files that were built are pushed.
func TestPushRefusesOtherFiles(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"a changed file": {func(t *testing.T, dir string) { write(t, dir, "install.yaml", "other") }, "install.yaml is not the file of the release"},
		"a new file":     {func(t *testing.T, dir string) { write(t, dir, "new.yaml", "other") }, "new.yaml is not the file of the release"},
		"a missing file": {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "icon.svg"))) }, "icon.svg is missing"},
		"no checksums":   {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, sumsFile))) }, `run "make release" first`},
		"another version": {func(t *testing.T, dir string) { must(t, writeSums(dir)) },
			"read the provenance of v1.2.3-rc.1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "install.yaml", "the manifest")
			write(t, dir, "icon.svg", "the icon")
			must(t, writeSums(dir))
			test.change(t, dir)
			if _, err := testRelease().Push(t.Context(), dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}
