package image_test

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

func newImage(files ...image.File) (v1.Image, error) {
	return image.New(image.Spec{Platform: amd64, Created: created, Files: files})
}

func TestFiles(t *testing.T) {
	img, err := newImage(
		image.File{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		image.File{Path: "/usr/local/bin/tool", Mode: fs.ModeSymlink | 0o777, Target: "/app/tool"},
		image.File{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0::/:\n")},
	)
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := files(t, img)
	for path, want := range map[string]tar.Header{
		"/etc":                {Typeflag: tar.TypeDir, Mode: 0o755},
		"/etc/passwd":         {Typeflag: tar.TypeReg, Mode: 0o644},
		"/tmp":                {Typeflag: tar.TypeDir, Mode: 0o1777},
		"/usr":                {Typeflag: tar.TypeDir, Mode: 0o755},
		"/usr/local":          {Typeflag: tar.TypeDir, Mode: 0o755},
		"/usr/local/bin":      {Typeflag: tar.TypeDir, Mode: 0o755},
		"/usr/local/bin/tool": {Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "/app/tool"},
	} {
		got := headers[path]
		if got == nil {
			t.Errorf("the image has no %s", path)
			continue
		}
		if got.Typeflag != want.Typeflag || got.Mode != want.Mode || got.Linkname != want.Linkname {
			t.Errorf("%s is type %c, mode %o, target %q, want %c, %o, %q",
				path, got.Typeflag, got.Mode, got.Linkname, want.Typeflag, want.Mode, want.Linkname)
		}
		if !got.ModTime.Equal(created) {
			t.Errorf("%s is from %s, want %s", path, got.ModTime, created)
		}
	}
	if len(headers) != 7 {
		t.Errorf("the image has %d files, want 7", len(headers))
	}
	if got := string(contents["/etc/passwd"]); got != "root:x:0:0::/:\n" {
		t.Errorf("/etc/passwd is %q", got)
	}
}

// The image does not depend on the order of the list, on the age of the files, or on permissions that depend on the umask.
func TestFilesAreReproducible(t *testing.T) {
	digest := func(mode fs.FileMode, age time.Duration, reversed bool) v1.Hash {
		t.Helper()
		dir := t.TempDir()
		for _, name := range []string{"a", "b"} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
		files, err := image.Tree(dir, "/app", nil)
		if err != nil {
			t.Fatal(err)
		}
		if reversed {
			for i, j := 0, len(files)-1; i < j; i, j = i+1, j-1 {
				files[i], files[j] = files[j], files[i]
			}
		}
		img, err := newImage(files...)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	if a, b := digest(0o664, 0, false), digest(0o600, time.Hour, true); a != b {
		t.Errorf("the same files are %s and %s", a, b)
	}
	if a, b := digest(0o664, 0, false), digest(0o775, 0, false); a == b {
		t.Error("executables are as files that are none")
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"bin", "skipped/deep"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/tool"), []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "skipped/deep/file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bin/tool", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	tree, err := image.Tree(dir, "/app", func(relative string) bool { return relative == "skipped" })
	if err != nil {
		t.Fatal(err)
	}
	img, err := newImage(tree...)
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := files(t, img)
	for path, mode := range map[string]int64{"/app": 0o755, "/app/bin": 0o755, "/app/bin/tool": 0o755, "/app/link": 0o777} {
		if headers[path] == nil {
			t.Errorf("the image has no %s", path)
		} else if headers[path].Mode != mode {
			t.Errorf("%s has mode %o, want %o", path, headers[path].Mode, mode)
		}
	}
	if len(headers) != 4 {
		t.Errorf("the image has %d files, want 4: %v", len(headers), headers)
	}
	if string(contents["/app/bin/tool"]) != "x" {
		t.Errorf("/app/bin/tool is %q", contents["/app/bin/tool"])
	}
	if headers["/app/link"].Linkname != "bin/tool" {
		t.Errorf("/app/link points to %q", headers["/app/link"].Linkname)
	}
}

func TestFilesThatNoImageCanHave(t *testing.T) {
	for name, test := range map[string]struct {
		files []image.File
		want  string
	}{
		"relative":       {[]image.File{{Path: "etc/passwd"}}, "must be absolute and clean"},
		"above the root": {[]image.File{{Path: "/../etc"}}, "must be absolute and clean"},
		"the root":       {[]image.File{{Path: "/"}}, "must be absolute and clean"},
		"twice":          {[]image.File{{Path: "/a"}, {Path: "/a"}}, "/a is twice in the image"},
		"below a file":   {[]image.File{{Path: "/a"}, {Path: "/a/b"}}, "/a/b is below /a, which is not a folder"},
		"a socket":       {[]image.File{{Path: "/a", Mode: fs.ModeSocket}}, "put /a into the image"},
		"absent":         {[]image.File{image.Executable("/a", "testdata/absent")}, "put /a into the image: open testdata/absent"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newImage(test.files...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}
