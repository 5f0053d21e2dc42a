// Package images makes the images that the tests run on a real node: MCP servers as they are published, one that can be broken on
// purpose, and a client. No registry and no container runtime takes part: image.WriteArchive writes what "ctr images import" gives to a node.
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

// AppUser is a user of /etc/passwd in every image here, with uid and gid 1001.
const AppUser = "appuser"

const passwd = `root:x:0:0:root:/:/sbin/nologin
` + AppUser + `:x:1001:1001::/:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
`

const group = `root:x:0:
` + AppUser + `:x:1001:
nogroup:x:65534:
`

// Server is the server of tests/images/server: static, without a shell, as user 65532. It listens where MCP_HOST or FASTMCP_HOST, and
// MCP_PORT or FASTMCP_PORT say. Its flags are the container's args.
//
// What is built goes into dir, which may be kept to be faster the next time. The working directory has to be in the module of the
// operator, as it is in a test. Both hold for all images.
func Server(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "server", "mcpserver-operator/tests/images/server")
}

// Client is the client of tests/images/client. Its flags are the container's args; package calls reads what it prints.
func Client(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "client", "mcpserver-operator/tests/images/client")
}

// GoEverything is the conformance server of go-sdk, the version in go.mod. It listens on port 8080 at every path, unless the container's
// args say otherwise: -http ADDRESS; -stateless=false for sessions; none of them for stdio, the default of its program.
func GoEverything(ctx context.Context, dir string) (v1.Image, error) {
	return program(ctx, dir, "everything-server", "github.com/modelcontextprotocol/go-sdk/conformance/everything-server",
		"-http", ":8080")
}

// program is an image that runs a main package of Go, with cmd for its arguments unless the container has some.
func program(ctx context.Context, dir, name, pkg string, cmd ...string) (v1.Image, error) {
	binary := filepath.Join(dir, name)
	if err := (image.Program{Package: pkg}).Build(ctx, platform(), binary); err != nil {
		return nil, err
	}
	return newImage(v1.Config{User: "65532", Entrypoint: []string{"/" + name}, Cmd: cmd}, image.Executable("/"+name, binary))
}

// As is the same image with another user: "" and "0" are root, AppUser is a name that the kubelet cannot tell from root's.
func As(img v1.Image, user string) (v1.Image, error) {
	return reconfigure(img, func(config *v1.Config) { config.User = user })
}

// WithoutProgram is the same image with an entrypoint that does not exist.
func WithoutProgram(img v1.Image) (v1.Image, error) {
	return reconfigure(img, func(config *v1.Config) { config.Entrypoint = []string{"/absent"} })
}

func reconfigure(img v1.Image, change func(*v1.Config)) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the image: %w", err)
	}
	config := file.Config.DeepCopy()
	change(config)
	return mutate.Config(img, *config)
}

// platform is that of this machine, whose node the images run on.
func platform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// newImage makes an image of the files, and of what every image here has.
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

// Folder is bin/images of the repository that the working directory is in, for what is kept between runs.
func Folder() (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := working; ; dir = filepath.Dir(dir) {
		// The Makefile is at the root only; go.mod is in modules of their own as well.
		if _, err := os.Stat(filepath.Join(dir, "Makefile")); err == nil {
			return filepath.Join(dir, "bin/images"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not in the repository of the operator", working)
		}
	}
}
