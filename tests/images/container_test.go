package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"mcpserver-operator/tests/images"
	"mcpserver-operator/tests/images/calls"
)

// build builds an image in a folder that is kept between runs.
func build(t *testing.T, builder func(ctx context.Context, dir string) (v1.Image, error)) v1.Image {
	t.Helper()
	dir, err := images.Folder()
	if err != nil {
		t.Fatal(err)
	}
	img, err := builder(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func config(t *testing.T, img v1.Image) v1.Config {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.Config
}

// unpack extracts the content of an image into a folder, as a container runtime does.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	reader := mutate.Extract(img)
	defer reader.Close()
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err == nil {
			err = unpackFile(filepath.Join(root, header.Name), header, archive)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unpackFile(name string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return os.Chmod(name, header.FileInfo().Mode())
	case tar.TypeSymlink:
		return os.Symlink(header.Linkname, name)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, header.FileInfo().Mode())
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// container is a running program of an image. It runs in a chroot as user 65532, so that it only sees the content of the image.
type container struct {
	*exec.Cmd
	output *buffer
	ended  chan struct{}
}

// start runs the image that was unpacked to root. If args are given, they replace the arguments of the image, as in a pod.
func start(t *testing.T, config v1.Config, root string, env []string, args ...string) *container {
	t.Helper()
	if args == nil {
		args = config.Cmd
	}
	args = append(append([]string{}, config.Entrypoint[1:]...), args...)
	c := &container{
		Cmd:    &exec.Cmd{Path: config.Entrypoint[0], Args: append(config.Entrypoint[:1:1], args...)},
		output: &buffer{},
		ended:  make(chan struct{}),
	}
	c.Dir = "/"
	c.Env = append(append([]string{}, config.Env...), env...)
	c.Stdout, c.Stderr = c.output, c.output
	c.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     root,
		Credential: &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: os.Getuid() != 0},
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Getuid() != 0 {
		// A user that is not root needs a user namespace for the chroot.
		c.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}}
	}
	if err := c.Start(); err != nil {
		t.Fatalf("start %s: %v", c.Path, err)
	}
	go func() {
		_ = c.Wait() // the tests check ProcessState
		close(c.ended)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-c.ended
		if t.Failed() {
			t.Logf("output of %s:\n%s", c.Path, c.output)
		}
	})
	return c
}

// exitCode waits until the program ends.
func (c *container) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-c.ended:
		return c.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not end within 30s", c.Path)
		return 0
	}
}

// buffer collects the output of a program that may still run.
type buffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.String()
}

// freePort returns a port on which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

// call waits until the server responds and calls a tool once.
func call(t *testing.T, url, tool string, arguments map[string]any) (calls.Result, calls.Summary) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		var output bytes.Buffer
		summary, err := calls.Run(t.Context(), calls.Options{URL: url, Tool: tool, Arguments: arguments, Count: 1, Timeout: 10 * time.Second}, &output)
		if err != nil {
			t.Fatal(err)
		}
		results, _, err := calls.Parse(output.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		result := results[0]
		if !strings.Contains(result.Error, "connection refused") {
			return result, summary
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing answers at %s: %s", url, result.Error)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
