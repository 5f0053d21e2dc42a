package mcp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// features are what npm/client.mjs uses, in this order.
var features = []string{"list", "call", "progress", "sampling", "elicitation", "subscription", "logging", "cancellation", "resumption"}

// TestClientsThatOthersWrote uses each feature with each client. The requests of a session arrive at three pods in turn, each on a connection of its own.
func TestClientsThatOthersWrote(t *testing.T) {
	npm := install(t)
	goServer := startService(t, 3, ofStdio(programs.server))
	everything := startService(t, 3, ofStdio(npm.server("everything")...))
	for name, row := range map[string]struct {
		client, server string
		service        *service
		version        string
		// missing are the features that the client does not have.
		missing map[string]string
	}{
		"sdk 1":                          {"sdk", "go", goServer, "2025-11-25", nil},
		"sdk 1, server-everything":       {"sdk", "everything", everything, "2025-11-25", nil},
		"client 2, modern":               {"client-modern", "go", goServer, "2026-07-28", map[string]string{"resumption": "the protocol has none"}},
		"client 2, finds out the modern": {"client-auto", "go", goServer, "2026-07-28", map[string]string{"resumption": "the protocol has none"}},
		"client 2, falls back":           {"client-auto", "everything", everything, "2025-11-25", nil},
		"mcp-remote":                     {"mcp-remote", "go", goServer, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			used := npm.use(t, row.client, row.service.url, row.server)
			if used.version != row.version {
				t.Errorf("the version is %q, want %q", used.version, row.version)
			}
			for _, feature := range features {
				t.Run(feature, func(t *testing.T) {
					failure, wasUsed := used.failures[feature]
					if why := row.missing[feature]; why != "" && !wasUsed {
						t.Log("not used:", why)
						return
					}
					if !wasUsed || failure != "" {
						t.Errorf("used: %t, %s", wasUsed, failure)
					}
				})
			}
		})
	}
	goServer.hasSpread(t)
	everything.hasSpread(t)
}

// used is what npm/client.mjs prints.
type used struct {
	version string
	// failures has each feature that was used; empty if it works.
	failures map[string]string
}

// use runs npm/client.mjs.
func (n *npm) use(t *testing.T, client, url, server string) used {
	t.Helper()
	output := n.run(t, "client.mjs", client, url, server, strings.TrimSuffix(url, "/mcp")+"/cut")
	result := used{failures: map[string]string{}}
	for line := range strings.Lines(output) {
		var one struct{ Version, Feature, Error string }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("the client printed %q: %v", line, err)
		}
		if one.Feature == "" {
			result.version = one.Version
		} else {
			result.failures[one.Feature] = one.Error
		}
	}
	return result
}

// run runs a program in the folder of the packages, and returns what it prints.
func (n *npm) run(t *testing.T, script string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), n.node, append([]string{filepath.Join(n.dir, script)}, arguments...)...)
	command.Env = append(os.Environ(), "HOME="+t.TempDir(), "NO_COLOR=1") // some keep files at home
	var log strings.Builder
	command.Stderr = &log
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", script, strings.Join(arguments, " "), err, output, log.String())
	}
	return string(output)
}

// inspect runs the CLI of the inspector, which opens a session for each command, and returns the result that it prints.
func (n *npm) inspect(t *testing.T, url, era string, arguments ...string) string {
	t.Helper()
	return n.run(t, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js",
		append([]string{"--cli", url, "--transport", "http", "--protocol-era", era}, arguments...)...)
}

func TestTheCLIOfTheInspectorWorks(t *testing.T) {
	npm := install(t)
	service := startService(t, 3, ofStdio(programs.server))
	for name, row := range map[string]struct {
		era       string
		arguments []string
		want      string
	}{
		"list the tools":        {"legacy", []string{"--method", "tools/list"}, `"test_simple_text"`},
		"list the resources":    {"legacy", []string{"--method", "resources/list"}, `"test://static-text"`},
		"list the prompts":      {"legacy", []string{"--method", "prompts/list"}, `"test_simple_prompt"`},
		"call":                  {"legacy", []string{"--method", "tools/call", "--tool-name", "test_simple_text"}, "simple text"},
		"call, modern":          {"modern", []string{"--method", "tools/call", "--tool-name", "test_simple_text"}, "simple text"},
		"call, finding the era": {"auto", []string{"--method", "tools/call", "--tool-name", "test_simple_text"}, "simple text"},
		"100 calls, 10 at once": {"legacy", []string{"--method", "tools/call", "--tool-name", "test_simple_text", "--load", "--load-requests", "100", "--format", "json"}, `"errors":0`},
		"read":                  {"legacy", []string{"--method", "resources/read", "--uri", "test://static-text"}, "static text resource"},
		"logging":               {"legacy", []string{"--method", "logging/setLevel", "--log-level", "debug"}, "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := npm.inspect(t, service.url, row.era, row.arguments...); !strings.Contains(got, row.want) {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
	service.hasSpread(t)
}
