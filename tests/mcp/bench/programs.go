package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// programs are the programs under test.
type programs struct {
	runner, server string
	node           string
	modules        string // the folder of the npm packages

	nodeVersion string
	versions    []string // of the npm packages
}

const serverPackage = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"

// prepare builds the runner and the server, and installs the other bridges. The working directory must be in the module.
func prepare(ctx context.Context, dir string) (*programs, error) {
	module, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	root := filepath.Join(module, "..", "..")
	p := &programs{runner: filepath.Join(dir, "mcp-runner"), server: filepath.Join(dir, "everything-server")}
	for _, one := range []struct{ dir, output, pkg string }{{root, p.runner, "./runner"}, {module, p.server, serverPackage}} {
		// The flags are those of the image of the operator.
		if _, err := output(ctx, one.dir, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", one.output, one.pkg); err != nil {
			return nil, err
		}
	}
	return p, p.install(ctx, filepath.Join(module, "bench", "npm"), filepath.Join(root, "bin", "mcp-bridges"))
}

// install installs the npm packages of a lock file. npm uses the registry of the user's configuration. To update the bridges, change npm/package.json and
// run in npm: npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
func (p *programs) install(ctx context.Context, source, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("installing the bridges: %w", err)
	}
	isInstalled := true
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return fmt.Errorf("installing the bridges: %w", err)
		}
		if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(old) == string(content) {
			continue
		}
		isInstalled = false
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("installing the bridges: %w", err)
		}
	}
	architecture := runtime.GOARCH
	if architecture == "amd64" {
		architecture = "x64"
	}
	p.modules = filepath.Join(dir, "node_modules")
	p.node = filepath.Join(p.modules, "node-linux-"+architecture, "bin", "node")
	if _, err := os.Stat(p.node); err != nil || !isInstalled {
		if _, err := output(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
			return err
		}
	}
	version, err := output(ctx, "", p.node, "--version")
	if err != nil {
		return err
	}
	p.nodeVersion = strings.TrimPrefix(version, "v")
	for _, name := range []string{"supergateway", "mcp-proxy"} {
		content, err := os.ReadFile(filepath.Join(p.modules, name, "package.json"))
		var about struct{ Version string }
		if err = errors.Join(err, json.Unmarshal(content, &about)); err != nil {
			return fmt.Errorf("reading the version of %s: %w", name, err)
		}
		p.versions = append(p.versions, name+" "+about.Version)
	}
	return nil
}

// output runs a command in a folder and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	text, err := command.Output()
	if err != nil {
		var detail []byte
		if exit, is := errors.AsType[*exec.ExitError](err); is {
			detail = exit.Stderr
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, detail)
	}
	return strings.TrimSpace(string(text)), nil
}
