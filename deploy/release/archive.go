package release

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// file is a file in an archive.
type file struct {
	// name is the path in the archive.
	name string
	// mode has the permissions. They do not depend on the checkout.
	mode fs.FileMode
	// source is the path of the content.
	source string
}

// filesBelow returns the files below a folder, in the order of their names.
func filesBelow(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		files = append(files, file{filepath.ToSlash(relative), 0o644, path})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", dir, err)
	}
	return files, nil
}

// tarOf returns a function that writes a tar archive. All files have the time modified.
func tarOf(files []file, modified time.Time) func(io.Writer) error {
	return func(w io.Writer) error {
		out := tar.NewWriter(w)
		for _, f := range files {
			content, size, err := open(f.source)
			if err != nil {
				return err
			}
			defer content.Close()
			header := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: size, ModTime: modified.UTC(), Format: tar.FormatUSTAR}
			if err := out.WriteHeader(header); err != nil {
				return err
			}
			if _, err := io.Copy(out, content); err != nil {
				return err
			}
		}
		return out.Close()
	}
}

// tarGzOf returns a function that writes a compressed tar archive.
func tarGzOf(files []file, modified time.Time) func(io.Writer) error {
	return func(w io.Writer) error {
		out := gzip.NewWriter(w)
		if err := tarOf(files, modified)(out); err != nil {
			return err
		}
		return out.Close()
	}
}

// zipOf returns a function that writes a zip archive.
func zipOf(files []file, modified time.Time) func(io.Writer) error {
	return func(w io.Writer) error {
		out := zip.NewWriter(w)
		for _, f := range files {
			content, _, err := open(f.source)
			if err != nil {
				return err
			}
			defer content.Close()
			header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: modified.UTC()}
			header.SetMode(f.mode)
			entry, err := out.CreateHeader(header)
			if err != nil {
				return err
			}
			if _, err := io.Copy(entry, content); err != nil {
				return err
			}
		}
		return out.Close()
	}
}

func open(path string) (content io.ReadCloser, size int64, err error) {
	opened, err := os.Open(path) //nolint:gosec // The maintainer who makes the release names the folders.
	if err != nil {
		return nil, 0, err
	}
	info, err := opened.Stat()
	if err != nil {
		_ = opened.Close()
		return nil, 0, err
	}
	return opened, info.Size(), nil
}

// writeFile creates a file of the release.
func writeFile(path string, write func(io.Writer) error) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // The files of a release are public.
	if err == nil {
		err = write(out)
		if closed := out.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeContent creates a file of the release with the given content.
func writeContent(path string, content []byte) error {
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}
