package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"mcpserver-operator/deploy/image"
)

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}

	created = time.Date(2026, 11, 1, 12, 0, 0, 0, time.FixedZone("somewhere", 3600))
	labels  = map[string]string{
		"org.opencontainers.image.title":       "hello",
		"org.opencontainers.image.description": "Says hello.",
		"org.opencontainers.image.version":     "v1.2.3",
		"org.opencontainers.image.revision":    "0123456789abcdef0123456789abcdef01234567",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.created":     "2026-11-01T11:00:00Z",
	}
)

// build builds the image of testdata/hello from a copy in a new folder, as from another checkout.
func build(t *testing.T, platforms ...v1.Platform) v1.ImageIndex {
	t.Helper()
	source := t.TempDir()
	if err := os.CopyFS(source, os.DirFS("testdata/hello")); err != nil {
		t.Fatal(err)
	}
	release := image.Release{
		Programs:   map[string]image.Program{"hello": {Dir: source, Package: ".", Version: "v1.2.3"}},
		Entrypoint: "hello",
		Platforms:  platforms,
		About: image.About{
			Title:       "hello",
			Description: "Says hello.",
			Version:     "v1.2.3",
			Revision:    "0123456789abcdef0123456789abcdef01234567",
			Licenses:    "Apache-2.0",
			Created:     created,
		},
	}
	index, err := release.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// A digest identifies the sources of an image only if the same sources always give the same digest.
func TestBuildIsReproducible(t *testing.T) {
	one := build(t, amd64, arm64)
	t.Setenv("CGO_ENABLED", "1") // the user's environment
	t.Setenv("TZ", "Asia/Tokyo")
	two := build(t, arm64, amd64, arm64)

	if a, b := digest(t, one), digest(t, two); a != b {
		t.Errorf("two builds of the same sources in two folders are %s and %s", a, b)
	}
	a, b := writeAll(t, one), writeAll(t, two)
	if difference := cmp.Diff(a, b); difference != "" {
		t.Errorf("what two builds write differs:\n%s", difference)
	}
}

// writeAll writes an image to files, and returns the digests of the files.
func writeAll(t *testing.T, index v1.ImageIndex) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := image.WriteLayout(filepath.Join(dir, "oci"), "v1.2.3", index); err != nil {
		t.Fatal(err)
	}
	if err := image.WriteArchive(filepath.Join(dir, "docker.tar"), "hello:v1.2.3", platformImage(t, index, arm64)); err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		hash, _, err := v1.SHA256(file)
		digests[strings.TrimPrefix(path, dir)] = hash.String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	pushed := build(t, amd64, arm64)
	reference := strings.TrimPrefix(server.URL, "http://") + "/team/hello:v1.2.3"
	to, err := image.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := image.Push(t.Context(), to, pushed)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(reference, ":v1.2.3") + "@" + digest(t, pushed).String(); pinned.String() != want {
		t.Errorf("the pushed image is %s, want %s", pinned, want)
	}

	for _, reference := range []name.Reference{to, pinned} {
		pulled, err := remote.Index(reference, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := digest(t, pulled), digest(t, pushed); got != want {
			t.Errorf("%s is %s, want %s", reference, got, want)
		}
		checkIndex(t, pulled)
	}
}

func TestPushToNobody(t *testing.T) {
	server := httptest.NewServer(registry.New())
	server.Close()
	to, err := image.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/hello:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := image.Push(ctx, to, build(t, amd64)); err == nil || !strings.Contains(err.Error(), "push "+to.String()) {
		t.Errorf("the error is %v, want it to say what was pushed", err)
	}
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oci")
	if err := image.WriteLayout(dir, "v0", build(t, amd64)); err != nil {
		t.Fatal(err)
	}
	built := build(t, amd64, arm64)
	if err := image.WriteLayout(dir, "v1.2.3", built); err != nil {
		t.Fatal(err)
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the layout has %d entries, want 1", len(manifest.Manifests))
	}
	// An index, and for each platform a manifest, a configuration and a layer. Nothing of the old layout remains.
	if blobs, err := os.ReadDir(filepath.Join(dir, "blobs/sha256")); err != nil || len(blobs) != 7 {
		t.Errorf("the layout has %d blobs, %v, want 7", len(blobs), err)
	}
	entry := manifest.Manifests[0]
	if got := entry.Annotations["org.opencontainers.image.ref.name"]; got != "v1.2.3" {
		t.Errorf("the entry of the layout is named %q, want v1.2.3", got)
	}
	index, err := outer.ImageIndex(entry.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := digest(t, index), digest(t, built); got != want {
		t.Errorf("the layout has %s, want %s", got, want)
	}
	checkIndex(t, index)
}

func TestArchive(t *testing.T) {
	built := platformImage(t, build(t, amd64, arm64), amd64)
	file := filepath.Join(t.TempDir(), "docker.tar")
	if err := image.WriteArchive(file, "hello:v1.2.3", built); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("hello:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, loaded, amd64)

	if err := image.WriteArchive(file, "no name", built); err == nil {
		t.Error("an archive was written for a reference that is none")
	}
}

func TestBuildRefuses(t *testing.T) {
	programs := map[string]image.Program{"hello": {Dir: "testdata/hello", Package: "."}}
	for name, test := range map[string]struct {
		release image.Release
		want    string
	}{
		"an entrypoint that is not there": {
			release: image.Release{Programs: programs, Entrypoint: "bye", Platforms: []v1.Platform{amd64}},
			want:    `the entrypoint "bye" is none of the programs`,
		},
		"no platform": {
			release: image.Release{Programs: programs, Entrypoint: "hello"},
			want:    "no platform to build hello for",
		},
		"a platform that Go does not know": {
			release: image.Release{Programs: programs, Entrypoint: "hello", Platforms: []v1.Platform{{OS: "linux", Architecture: "pdp11"}}},
			want:    "build . for linux/pdp11: exit status",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := test.release.Build(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestForPlatform(t *testing.T) {
	_, err := image.ForPlatform(build(t, amd64), arm64)
	if want := "there is no image for linux/arm64, only for linux/amd64"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

// checkIndex checks an index that build built for both platforms.
func checkIndex(t *testing.T, index v1.ImageIndex) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(labels, manifest.Annotations); difference != "" {
		t.Errorf("the annotations of the index differ:\n%s", difference)
	}
	if len(manifest.Manifests) != 2 {
		t.Errorf("the index has %d images, want 2", len(manifest.Manifests))
	}
	for _, platform := range []v1.Platform{amd64, arm64} {
		checkImage(t, platformImage(t, index, platform), platform)
	}
}

// checkImage checks an image that build built for the platform.
func checkImage(t *testing.T, img v1.Image, platform v1.Platform) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{User: "65532:65532", Entrypoint: []string{"/hello"}, Labels: labels}
	if difference := cmp.Diff(want, config.Config); difference != "" {
		t.Errorf("the configuration for %s differs:\n%s", platform, difference)
	}
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		t.Errorf("the image is for %s/%s, want %s", config.OS, config.Architecture, platform)
	}
	if !config.Created.Equal(created) {
		t.Errorf("the image is from %s, want %s", config.Created, created)
	}
	headers, contents := files(t, img)
	if len(headers) != 1 {
		t.Errorf("the image has %d files, want the program alone: %v", len(headers), headers)
	}
	header := headers["/hello"]
	if header == nil {
		t.Fatalf("the image for %s has no /hello", platform)
	}
	if header.Mode != 0o755 || header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(created) {
		t.Errorf("/hello has mode %o, owner %d:%d, time %s, want 755, 0:0, %s", header.Mode, header.Uid, header.Gid, header.ModTime, created)
	}
	checkStatic(t, contents["/hello"], platform)
}

// checkStatic checks that a program runs in an image with no other files.
func checkStatic(t *testing.T, program []byte, platform v1.Platform) {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatalf("the program for %s: %v", platform, err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[platform.Architecture]; file.Machine != want {
		t.Errorf("the program for %s is for %s, want %s", platform, file.Machine, want)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Errorf("the program for %s needs a dynamic loader, which the image does not have", platform)
		}
	}
}

// files returns the files of the image, by absolute path without a trailing slash.
func files(t *testing.T, img v1.Image) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	reader := mutate.Extract(img)
	defer reader.Close()
	headers, contents := map[string]*tar.Header{}, map[string][]byte{}
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		path := "/" + strings.TrimSuffix(header.Name, "/")
		headers[path] = header
		if contents[path], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func digest(t *testing.T, index v1.ImageIndex) v1.Hash {
	t.Helper()
	hash, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func platformImage(t *testing.T, index v1.ImageIndex, platform v1.Platform) v1.Image {
	t.Helper()
	img, err := image.ForPlatform(index, platform)
	if err != nil {
		t.Fatal(err)
	}
	return img
}
