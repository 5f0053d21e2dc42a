package release

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	helmregistry "helm.sh/helm/v4/pkg/registry"

	"mcpserver-operator/deploy/image"
)

// TestPush verifies that the registry has the image and the chart of the files afterwards, and that a second push changes nothing.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	r, dir := testRelease(), t.TempDir()
	r.ImageRepository, r.ChartRegistry = host+"/team/mcpserver-operator", "oci://"+host+"/charts"
	index, err := random.Index(100, 1, 2)
	must(t, err)
	layout := t.TempDir()
	must(t, image.WriteLayout(layout, string(r.Version), index))
	files, err := filesBelow(layout)
	must(t, err)
	must(t, writeFile(filepath.Join(dir, r.imageArchive()), tarOf(files, r.Source.Created)))
	must(t, r.packageChart(dir))
	must(t, r.writeProvenance(t.Context(), dir, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}))
	must(t, writeSums(dir))

	pushed, err := r.Push(t.Context(), dir)
	must(t, err)
	again, err := r.Push(t.Context(), dir)
	must(t, err)
	if !slices.Equal(pushed, again) {
		t.Errorf("the first push gave %v, the second %v", pushed, again)
	}
	digest, err := index.Digest()
	must(t, err)
	other := r
	other.ImageRepository = host + "/other/mcpserver-operator"
	if _, err := other.Push(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "built for") {
		t.Errorf("a push to other addresses than those of the build: %v", err)
	}
	if want := r.ImageRepository + "@" + digest.String(); pushed[0] != want {
		t.Errorf("the image is %s, want %s", pushed[0], want)
	}
	tag, err := name.NewTag(r.ImageRepository + ":" + string(r.Version))
	must(t, err)
	pulled, err := remote.Index(tag, remote.WithContext(t.Context()))
	must(t, err)
	if got, err := pulled.Digest(); err != nil || got != digest {
		t.Errorf("%s is %s, %v", tag, got, err)
	}

	helm, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard))
	must(t, err)
	chart, err := helm.Pull(host + "/charts/mcpserver-operator:1.2.3-rc.1")
	must(t, err)
	if want := read(t, dir, r.chartArchive()); !slices.Equal(chart.Chart.Data, want) {
		t.Error("the chart in the registry is not that of the release")
	}
	if got := host + "/charts/mcpserver-operator@" + chart.Manifest.Digest; got != pushed[1] {
		t.Errorf("the chart is %s, want %s", got, pushed[1])
	}
}

// TestAReleaseIsNotReplaced verifies that neither the image nor the chart of a version can become another one.
func TestAReleaseIsNotReplaced(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, taken := range []string{host + "/team/mcpserver-operator:v1.2.3-rc.1", host + "/charts/mcpserver-operator:1.2.3-rc.1"} {
		tag, err := name.NewTag(taken)
		must(t, err)
		there, err := random.Image(100, 1)
		must(t, err)
		must(t, remote.Write(tag, there))
		same := func(is bool) func(*remote.Descriptor) (bool, error) {
			return func(*remote.Descriptor) (bool, error) { return is, nil }
		}
		if err := verifyNew(t.Context(), tag, same(false)); err == nil || !strings.Contains(err.Error(), "is not replaced") {
			t.Errorf("%s: %v", taken, err)
		}
		must(t, verifyNew(t.Context(), tag, same(true)))
		must(t, verifyNew(t.Context(), tag.Context().Tag("absent"), same(false)))
	}
}
