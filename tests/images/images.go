// Package images builds the images that the tests run on a real node: published MCP servers, a test server that can misbehave on request,
// and a client. It needs no registry and no container runtime. image.WriteArchive writes the archive for "ctr images import".
package images

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"mcpserver-operator/deploy/image"
)

// AppUser is a user in /etc/passwd of every image in this package. Its uid and gid are 1001.
const AppUser = "appuser"

const passwd = `root:x:0:0:root:/:/sbin/nologin
` + AppUser + `:x:1001:1001::/:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
`

const group = `root:x:0:
` + AppUser + `:x:1001:
nogroup:x:65534:
`

// Server is the server of tests/images/server: a static binary, without a shell, with user 65532. It listens at the address of MCP_HOST or
// FASTMCP_HOST, and the port of MCP_PORT or FASTMCP_PORT. The container's args are its flags.
//
// The build output goes into dir. Keep dir to speed up later builds. The working directory must be in the operator's module, as in a test.
// Both apply to all images.
func Server(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "server", "mcpserver-operator/tests/images/server")
}

// Client is the client of tests/images/client. The container's args are its flags. Package calls parses its output.
func Client(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "client", "mcpserver-operator/tests/images/client")
}

// GoEverything is the conformance server of go-sdk, in the version of go.mod. By default it listens on port 8080 at every path. The
// container's args can change this: -http ADDRESS sets the address, and -stateless=false enables sessions. With neither argument, the
// program uses stdio, its own default.
func GoEverything(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "everything-server", "github.com/modelcontextprotocol/go-sdk/conformance/everything-server",
		"-http", ":8080")
}

// program builds an image that runs a Go main package. The arguments cmd apply unless the container sets args.
func program(ctx context.Context, dir, name, pkg string, cmd ...string) (v1.Image, error) {
	binary := filepath.Join(dir, name)
	if err := (image.Program{Package: pkg}).Build(ctx, platform(), binary); err != nil {
		return nil, err
	}
	return newImage(v1.Config{User: "65532", Entrypoint: []string{"/" + name}, Cmd: cmd}, image.Executable("/"+name, binary))
}

// As returns the image with a different user. "" and "0" are root. The kubelet cannot tell from the name AppUser that it is not root.
func As(img v1.Image, user string) (v1.Image, error) {
	return reconfigure(img, func(config *v1.Config) { config.User = user })
}

// WithoutProgram returns the image with an entrypoint that does not exist.
func WithoutProgram(img v1.Image) (v1.Image, error) {
	return reconfigure(img, func(config *v1.Config) { config.Entrypoint = []string{"/absent"} })
}

func reconfigure(img v1.Image, change func(*v1.Config)) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the image: %w", err)
	}
	config := file.Config
	change(&config)
	return mutate.Config(img, config)
}

// platform is the platform of this machine, on whose node the images run.
func platform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// newImage builds an image from the files and the files that all images in this package contain.
func newImage(config v1.Config, files ...image.File) (v1.Image, error) {
	return image.New(image.Spec{
		Config:   config,
		Platform: platform(),
		Created:  time.Unix(0, 0),
		Files: append(files,
			image.File{Path: "/etc/passwd", Mode: 0o644, Content: []byte(passwd)},
			image.File{Path: "/etc/group", Mode: 0o644, Content: []byte(group)},
			image.File{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		),
	})
}

// Folder returns bin/images in the repository of the working directory. Its content is kept between runs.
func Folder() (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := working; ; dir = filepath.Dir(dir) {
		// Only the root has a Makefile. Nested modules have a go.mod too.
		if _, err := os.Stat(filepath.Join(dir, "Makefile")); err == nil {
			return filepath.Join(dir, "bin/images"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not in the operator's repository", working)
		}
	}
}
