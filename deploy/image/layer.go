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

// File is a file, a folder or a symbolic link in an image. All belong to root, so that what runs in the container cannot
// change its own program.
type File struct {
	// Path is where it is in the image, such as /etc/passwd. The folders above need no File of their own.
	Path string
	// Mode has the permissions, and the type fs.ModeDir or fs.ModeSymlink if it is no regular file.
	Mode fs.FileMode
	// Source is the file of this machine that has the content. If empty, Content is it.
	Source  string
	Content []byte
	// Target is where a symbolic link points to.
	Target string
}

// Executable is the program of this machine at source, put at path.
func Executable(path, source string) File {
	return File{Path: path, Mode: 0o755, Source: source}
}

// Tree lists what is in a folder of this machine, to be put below another one in the image. Folders for which skip is true
// are left out. A file is executable for everybody or for nobody: a umask and a checkout give different permissions to the
// same files.
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

// newLayer makes one layer of the files. Its digest depends on their paths, modes, contents and the time, on nothing else.
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
	// The compressed layer is kept, because it is read twice or more: for its digest, and each time it is written.
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make a layer of the files: %w", err)
	}
	return layer, nil
}

// complete returns the files sorted by path and with the folders that they are in: a runtime gives a folder that no layer
// mentions whatever mode it likes.
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
		ModTime: modified.Truncate(time.Second), // tar has whole seconds, unless it is made to have more
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
