package mcp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// call calls a tool and returns the text of its result.
func call(t *testing.T, one *mcp.ClientSession, tool string, arguments map[string]any) string {
	t.Helper()
	result, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	return textOf(t, result, err)
}

// The requests of both sessions arrive at three pods in turn. server-memory keeps its state in a file: each process has one of its own.
func TestServerMemoryKeepsTheStateOfEachSession(t *testing.T) {
	npm := install(t)
	program := npm.server("memory")[1]
	service := startService(t, 3, ofStdio(npm.node, "-e", "process.env.MEMORY_FILE_PATH = '"+t.TempDir()+"/' + crypto.randomUUID(); import('"+program+"')"))
	names := []string{"Ada", "Grace", "Edsger"}
	var sessions []*mcp.ClientSession
	for _, name := range names {
		one := connect(t, &mcp.StreamableClientTransport{Endpoint: service.url}, polling)
		call(t, one, "create_entities", map[string]any{"entities": []any{map[string]any{"name": name, "entityType": "person", "observations": []string{}}}})
		sessions = append(sessions, one)
	}
	for range 3 {
		for i, one := range sessions {
			graph := call(t, one, "read_graph", map[string]any{})
			for j, name := range names {
				if strings.Contains(graph, name) != (i == j) {
					t.Errorf("the session of %s has %s", names[i], graph)
				}
			}
		}
	}
	service.hasSpread(t)
}

func TestServerFilesystemReadsAndWrites(t *testing.T) {
	npm := install(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	service := startService(t, 3, ofStdio(append(npm.server("filesystem"), dir)...))
	one := connect(t, &mcp.StreamableClientTransport{Endpoint: service.url}, polling)
	file, content := filepath.Join(dir, "file"), strings.Repeat("a line of text\n", 10_000)
	call(t, one, "write_file", map[string]any{"path": file, "content": content})
	if written, err := os.ReadFile(file); err != nil || string(written) != content {
		t.Errorf("the file has %d bytes, %v", len(written), err)
	}
	if got := call(t, one, "read_text_file", map[string]any{"path": file}); got != content {
		t.Errorf("%d bytes were read, want %d", len(got), len(content))
	}
	service.hasSpread(t)
}
