package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is a file or a folder of an image.
type File struct {
	// Path is where it is in the image, without a leading slash.
	Path string
	// Source is the file, or the folder with all that is in it, on this machine. Empty: see Content.
	Source string
	// Content is that of a file without a Source.
	Content string
}

// Layer returns a layer of files. Equal files make an equal layer: they are in the order of their paths, belong to root, were
// last changed at a time that the caller gives, and can be read and, if their owner can, executed by all.
func Layer(changed time.Time, files ...File) (v1.Layer, error) {
	entries, err := expand(files)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, entry := range entries {
		if err := entry.write(writer, changed); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("writing a layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	})
	if err != nil {
		return nil, fmt.Errorf("making a layer: %w", err)
	}
	return layer, nil
}

// entry is a file, a folder or a symbolic link of a layer.
type entry struct {
	File
	info fs.FileInfo // nil: Content counts
}

// expand returns every file of a list with those in its folders, in the order of their paths.
func expand(files []File) ([]entry, error) {
	var entries []entry
	for _, file := range files {
		if file.Source == "" {
			entries = append(entries, entry{File: file})
			continue
		}
		err := filepath.WalkDir(file.Source, func(source string, found fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := found.Info()
			if err != nil {
				return err
			}
			below := strings.TrimPrefix(filepath.ToSlash(strings.TrimPrefix(source, file.Source)), "/")
			entries = append(entries, entry{File: File{Path: path.Join(file.Path, below), Source: source}, info: info})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading the files of a layer: %w", err)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

func (e entry) write(writer *tar.Writer, changed time.Time) error {
	header := &tar.Header{Name: e.Path, ModTime: changed.UTC(), Mode: 0o644, Size: int64(len(e.Content)), Format: tar.FormatPAX}
	content := []byte(e.Content)
	var err error
	if e.info != nil {
		switch {
		case e.info.IsDir():
			header.Typeflag, header.Name, header.Mode, header.Size = tar.TypeDir, e.Path+"/", 0o755, 0
			content = nil
		case e.info.Mode()&fs.ModeSymlink != 0:
			header.Typeflag, header.Mode, header.Size = tar.TypeSymlink, 0o777, 0
			header.Linkname, err = os.Readlink(e.Source)
			content = nil
		default:
			if e.info.Mode()&0o100 != 0 {
				header.Mode = 0o755
			}
			content, err = os.ReadFile(e.Source)
			header.Size = int64(len(content))
		}
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", e.Source, err)
	}
	if err := writer.WriteHeader(header); err != nil {
		return fmt.Errorf("writing %s: %w", e.Path, err)
	}
	if _, err := writer.Write(content); err != nil {
		return fmt.Errorf("writing %s: %w", e.Path, err)
	}
	return nil
}
