package mcp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programs are the programs under test.
var programs struct{ runner, server string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mcp")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.runner, programs.server = filepath.Join(dir, "mcp-runner"), filepath.Join(dir, "everything-server")
	code := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build() error {
	for _, one := range []struct{ dir, output, pkg string }{
		{filepath.Join("..", ".."), programs.runner, "./runner"},
		{".", programs.server, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"},
	} {
		command := exec.Command("go", "build", "-o", one.output, one.pkg)
		command.Dir, command.Env = one.dir, append(os.Environ(), "CGO_ENABLED=0")
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w: %s", one.pkg, err, output)
		}
	}
	return nil
}

// started is a program that runs until the end of the test.
type started struct {
	command *exec.Cmd
	url     string
	// management is the URL of the management port; empty for a server without a runner.
	management string
}

// startRunner starts the runner in front of the server, and waits until it is ready.
func startRunner(t *testing.T, flags ...string) *started {
	t.Helper()
	return startRunnerOf(t, append(flags, "--", programs.server)...)
}

// startRunnerOf starts the runner in front of what the flags say.
func startRunnerOf(t *testing.T, flags ...string) *started {
	t.Helper()
	flags = append([]string{"--listen=127.0.0.1:0", "--management=127.0.0.1:0", "--drain-delay=0s", "--drain-timeout=1s"}, flags...)
	command := exec.Command(programs.runner, flags...)
	log, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, command)
	addresses := map[string]string{}
	lines := bufio.NewScanner(log)
	for len(addresses) < 2 && lines.Scan() {
		var line struct{ Msg, For, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			addresses[line.For] = "http://" + line.Address
		}
	}
	go func() {
		for lines.Scan() { // so that the runner does not wait
		}
	}()
	s := &started{command, addresses["clients"] + "/mcp", addresses["management"]}
	waitFor(t, s.management+"/readyz", func(status int) bool { return status == http.StatusOK })
	return s
}

// startServer starts the server with its own HTTP.
func startServer(t *testing.T, flags ...string) *started {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String() // the server cannot choose a free port itself
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(programs.server, append([]string{"-http", address}, flags...)...)
	start(t, command)
	s := &started{command, "http://" + address + "/", ""}
	waitFor(t, s.url, func(int) bool { return true })
	return s
}

func start(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		killer := time.AfterFunc(10*time.Second, func() { _ = command.Process.Kill() })
		_ = command.Wait() // a server ends with the signal
		killer.Stop()
	})
}

func waitFor(t *testing.T, url string, is func(status int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if is(response.StatusCode) {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not answer: %v", url, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// packages is the folder of the lock file and of the scripts. The images of the nodes in tests/node have the same packages.
var packages = filepath.Join("..", "images", "npm")

// npm are the packages of the lock file: the conformance suite, clients, servers, and Node.js.
type npm struct{ dir, node string }

// install installs the packages. npm uses the registry of the user's configuration.
func install(t *testing.T) *npm {
	t.Helper()
	program, err := exec.LookPath("npm")
	if err != nil {
		t.Fatal("the test needs npm: install Node.js with npm (on Debian: apt-get install npm)")
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin", "mcp-npm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	isInstalled := true
	files, err := os.ReadDir(packages)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(packages, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, file.Name())
		if old, err := os.ReadFile(copied); err != nil || string(old) != string(content) {
			isInstalled = isInstalled && filepath.Ext(copied) != ".json"
			if err := os.WriteFile(copied, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	node := filepath.Join(dir, "node_modules", "node-linux-"+map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH], "bin", "node")
	if _, err := os.Stat(node); err != nil || !isInstalled {
		command := exec.Command(program, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v: %s", err, strings.TrimSpace(string(output)))
		}
	}
	return &npm{dir, node}
}

// suite returns the command of the conformance suite.
func (n *npm) suite() []string {
	return []string{n.node, filepath.Join(n.dir, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js")}
}

// server returns the command of one of the servers of the protocol's authors, for example everything.
func (n *npm) server(name string) []string {
	return []string{n.node, filepath.Join(n.dir, "node_modules", "@modelcontextprotocol", "server-"+name, "dist", "index.js")}
}
