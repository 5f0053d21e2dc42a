package images_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"mcpserver-operator/tests/images"
	"mcpserver-operator/tests/images/calls"
)

func TestServer(t *testing.T) {
	img := build(t, images.Server)
	want := v1.Config{User: "65532", Entrypoint: []string{"/server"}}
	if difference := cmp.Diff(want, config(t, img)); difference != "" {
		t.Errorf("the configuration differs:\n%s", difference)
	}
	if shells := programs(t, img); !slices.Equal(shells, []string{"server"}) {
		t.Errorf("the image has the programs %v, want only the server", shells)
	}
	port := freePort(t)
	start(t, config(t, img), unpack(t, img), []string{"FASTMCP_HOST=127.0.0.1", "MCP_PORT=" + port})

	result, summary := call(t, "http://127.0.0.1:"+port+"/mcp", "whoami", nil)
	if !result.OK {
		t.Fatalf("whoami failed: %s", result.Error)
	}
	var identity struct {
		Hostname string
		UID, GID int
	}
	if err := json.Unmarshal([]byte(result.Text), &identity); err != nil {
		t.Fatal(err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if identity.Hostname != hostname || identity.UID != 65532 || identity.GID != 65532 || result.Instance != hostname {
		t.Errorf("the server is %+v, instance %q, want %s, 65532, 65532", identity, result.Instance, hostname)
	}
	if want := []string{"allocate", "burn", "environment", "exit", "sleep", "whoami"}; summary.Server != "probe" || !slices.Equal(summary.Tools, want) {
		t.Errorf("the server is %q with the tools %v, want probe with %v", summary.Server, summary.Tools, want)
	}
}

func TestGoEverything(t *testing.T) {
	img := build(t, images.GoEverything)
	want := v1.Config{User: "65532", Entrypoint: []string{"/everything-server"}, Cmd: []string{"-http", ":8080"}}
	if difference := cmp.Diff(want, config(t, img)); difference != "" {
		t.Errorf("the configuration differs:\n%s", difference)
	}
	address := "127.0.0.1:" + freePort(t)
	start(t, config(t, img), unpack(t, img), nil, "-http", address)

	result, summary := call(t, "http://"+address+"/mcp", "test_simple_text", nil)
	if !result.OK || !strings.Contains(result.Text, "simple text") || summary.Server != "mcp-conformance-test-server" {
		t.Errorf("the server %q answers %q, %s", summary.Server, result.Text, result.Error)
	}
}

func TestEverything(t *testing.T) {
	img := build(t, images.Everything)
	want := v1.Config{
		User:       "65532",
		WorkingDir: "/app",
		Env:        []string{"PATH=/usr/local/bin"},
		Entrypoint: []string{"/usr/local/bin/node", "/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js"},
		Cmd:        []string{"streamableHttp"},
	}
	if difference := cmp.Diff(want, config(t, img)); difference != "" {
		t.Errorf("the configuration differs:\n%s", difference)
	}
	port := freePort(t)
	start(t, config(t, img), unpack(t, img), []string{"PORT=" + port})

	result, summary := call(t, "http://127.0.0.1:"+port+"/mcp", "echo", map[string]any{"message": "hello"})
	if !result.OK || result.Text != "Echo: hello" || summary.Server != "mcp-servers/everything" {
		t.Errorf("the server %q answers %q, %s", summary.Server, result.Text, result.Error)
	}
}

func TestPackages(t *testing.T) {
	img := build(t, images.Packages)
	want := v1.Config{User: "65532", WorkingDir: "/app", Env: []string{"PATH=/usr/local/bin"}}
	if difference := cmp.Diff(want, config(t, img)); difference != "" {
		t.Errorf("the configuration differs:\n%s", difference)
	}
	root := unpack(t, img)
	for _, program := range []string{"/usr/local/bin/node", "/app/client.mjs", "/app/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js", "/app/node_modules/@modelcontextprotocol/server-memory/dist/index.js"} {
		if _, err := os.Stat(filepath.Join(root, program)); err != nil {
			t.Errorf("the image lacks a program: %v", err)
		}
	}
}

func TestClient(t *testing.T) {
	server, client := build(t, images.Server), build(t, images.Client)
	want := v1.Config{User: "65532", Entrypoint: []string{"/client"}}
	if difference := cmp.Diff(want, config(t, client)); difference != "" {
		t.Errorf("the configuration differs:\n%s", difference)
	}
	port := freePort(t)
	url := "http://127.0.0.1:" + port + "/mcp"
	running := start(t, config(t, server), unpack(t, server), []string{"MCP_PORT=" + port})
	call(t, url, "whoami", nil) // waits until the server listens
	root := unpack(t, client)

	pod := start(t, config(t, client), root, nil, "-url", url, "-tool", "burn", "-args", `{"share": 0}`, "-count", "3", "-every", "10ms")
	if code := pod.exitCode(t); code != 0 {
		t.Errorf("the client exited with %d, want 0", code)
	}
	if results, summary := parse(t, pod); len(results) != 3 || summary.Calls != 3 || summary.Failed != 0 {
		t.Errorf("the client reports %+v, want 3 calls and no failure", summary)
	}

	pod = start(t, config(t, client), root, nil, "-url", url, "-for", "1h", "-count", "0", "-every", "10ms")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if results, _, err := calls.Parse([]byte(pod.output.String())); err != nil || time.Now().After(deadline) {
			t.Fatalf("no call within 30s: %v", err)
		} else if len(results) > 0 {
			break
		}
	}
	if err := pod.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := pod.exitCode(t); code != 0 {
		t.Errorf("the stopped client exited with %d, want 0", code)
	}
	parse(t, pod)

	if err := running.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-running.ended
	pod = start(t, config(t, client), root, nil, "-url", url)
	if code := pod.exitCode(t); code != 1 {
		t.Errorf("the client without a server exited with %d, want 1", code)
	}
	if results, summary := parse(t, pod); summary.Failed != 1 || !strings.Contains(results[0].Error, "connection refused") {
		t.Errorf("the client without a server reports %+v, %+v", results, summary)
	}

	pod = start(t, config(t, client), root, nil, "-url", url, "-args", "{")
	if code := pod.exitCode(t); code != 2 {
		t.Errorf("the client with invalid arguments exited with %d, want 2", code)
	}
}

// parse parses the output of a client that has exited.
func parse(t *testing.T, c *container) ([]calls.Result, calls.Summary) {
	t.Helper()
	results, summary, err := calls.Parse([]byte(c.output.String()))
	if err != nil || summary == nil {
		t.Fatalf("the client printed no summary: %v", err)
	}
	return results, *summary
}

func TestVariants(t *testing.T) {
	img := build(t, images.Server)
	before, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "0", images.AppUser} {
		variant, err := images.As(img, user)
		if err != nil {
			t.Fatal(err)
		}
		want := v1.Config{User: user, Entrypoint: []string{"/server"}}
		if difference := cmp.Diff(want, config(t, variant)); difference != "" {
			t.Errorf("the configuration as %q differs:\n%s", user, difference)
		}
	}
	broken, err := images.WithoutProgram(img)
	if err != nil {
		t.Fatal(err)
	}
	entrypoint := config(t, broken).Entrypoint[0]
	if _, err := os.Lstat(filepath.Join(unpack(t, broken), entrypoint)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the entrypoint %s of the broken image must not exist, got: %v", entrypoint, err)
	}
	if after, err := img.Digest(); err != nil || after != before {
		t.Errorf("the original image of the variants has changed from %s to %s, %v", before, after, err)
	}
}

// A user name only works if the image defines the user.
func TestAppUserIsInTheImage(t *testing.T) {
	passwd, err := os.ReadFile(filepath.Join(unpack(t, build(t, images.Server)), "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(passwd), "\n"+images.AppUser+":x:1001:1001:") {
		t.Errorf("/etc/passwd does not contain %s with 1001:1001:\n%s", images.AppUser, passwd)
	}
}

func TestPlatform(t *testing.T) {
	file, err := build(t, images.Client).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if file.OS != "linux" || file.Architecture != runtime.GOARCH {
		t.Errorf("the image is for %s/%s, want this machine's linux/%s", file.OS, file.Architecture, runtime.GOARCH)
	}
}

// programs returns the executable files of an image.
func programs(t *testing.T, img v1.Image) []string {
	t.Helper()
	reader := mutate.Extract(img)
	defer reader.Close()
	var names []string
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg && header.Mode&0o111 != 0 {
			names = append(names, header.Name)
		}
	}
}
