package image

import (
	"archive/tar"
	"cmp"
	"errors"
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
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is a file, a folder or a symbolic link in an image. Its owner is root, so that a program in the container cannot
// change its own executable.
type File struct {
	// Path is the path in the image, such as /etc/passwd. The folders above it are added automatically.
	Path string
	// Mode has the permissions. It also has fs.ModeDir for a folder and fs.ModeSymlink for a symbolic link.
	Mode fs.FileMode
	// Source is the path of a file on this machine with the content. If empty, Content is the content.
	Source  string
	Content []byte
	// Target is the target of a symbolic link.
	Target string
}

// Executable returns a File at path with the content of the program source on this machine.
func Executable(path, source string) File {
	return File{Path: path, Mode: 0o755, Source: source}
}

// Tree lists the content of the folder dir on this machine, as files below the folder below in the image. It leaves out the
// folders for which skip returns true. A file is executable for all users or for none, because the other permissions depend on
// the umask and the checkout.
func Tree(dir, below string, skip func(relative string) bool) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if entry.IsDir() && skip != nil && skip(filepath.ToSlash(relative)) {
			return filepath.SkipDir
		}
		file := File{Path: path.Join(below, filepath.ToSlash(relative))}
		switch info, err := entry.Info(); {
		case err != nil:
			return err
		case info.IsDir():
			file.Mode = fs.ModeDir | 0o755
		case info.Mode().Type() == fs.ModeSymlink:
			file.Mode = fs.ModeSymlink | 0o777
			if file.Target, err = os.Readlink(name); err != nil {
				return err
			}
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is a %s, which an image cannot have", name, info.Mode().Type())
		case info.Mode().Perm()&0o111 != 0:
			file.Mode, file.Source = 0o755, name
		default:
			file.Mode, file.Source = 0o644, name
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", dir, err)
	}
	return files, nil
}

// newLayer returns one layer with the files. The digest of the layer depends only on the paths, modes and contents of the files
// and on the time.
func newLayer(files []File, modified time.Time) (v1.Layer, error) {
	files, err := complete(files)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(writeTar(writer, files, modified)) }()
		return reader, nil
	}
	// The compressed layer is cached, because it is read for its digest and each time it is written.
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make a layer of the files: %w", err)
	}
	return layer, nil
}

// complete returns the files and the folders that contain them, sorted by path. The mode of a folder that is in no layer would
// depend on the container runtime.
func complete(files []File) ([]File, error) {
	known := map[string]File{}
	for _, file := range files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || file.Path == "/" {
			return nil, fmt.Errorf("%q is not the path of a file in an image: it must be absolute and clean", file.Path)
		}
		if _, found := known[file.Path]; found {
			return nil, fmt.Errorf("%s is twice in the image", file.Path)
		}
		known[file.Path] = file
	}
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			if parent, found := known[dir]; !found {
				known[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			} else if !parent.Mode.IsDir() {
				return nil, fmt.Errorf("%s is below %s, which is not a folder", file.Path, dir)
			}
		}
	}
	all := make([]File, 0, len(known))
	for _, file := range known {
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return all, nil
}

func writeTar(w io.Writer, files []File, modified time.Time) error {
	out := tar.NewWriter(w)
	for _, file := range files {
		if err := writeFile(out, file, modified); err != nil {
			return fmt.Errorf("put %s into the image: %w", file.Path, err)
		}
	}
	return out.Close()
}

func writeFile(out *tar.Writer, file File, modified time.Time) error {
	header := &tar.Header{
		Name:    strings.TrimPrefix(file.Path, "/"),
		Mode:    int64(file.Mode.Perm()),
		ModTime: modified.Truncate(time.Second), // fractions of a second need extra records in a tar
		Format:  tar.FormatPAX,
	}
	if file.Mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch file.Mode.Type() {
	case fs.ModeDir:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
		return out.WriteHeader(header)
	case fs.ModeSymlink:
		header.Typeflag = tar.TypeSymlink
		header.Linkname = file.Target
		return out.WriteHeader(header)
	case 0:
	default:
		return errors.New("it is neither a file, a folder nor a symbolic link")
	}
	header.Typeflag = tar.TypeReg
	if file.Source == "" {
		header.Size = int64(len(file.Content))
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		_, err := out.Write(file.Content)
		return err
	}
	source, err := os.Open(file.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, source)
	return err
}
