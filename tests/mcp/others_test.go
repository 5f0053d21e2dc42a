package mcp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// features are what client.mjs uses, in this order.
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
			used := npm.use(t, "client.mjs", row.client, row.service.url, row.server)
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

// used is what a script prints.
type used struct {
	version string
	// failures has each feature that was used; empty if it works.
	failures map[string]string
}

// use runs a script.
func (n *npm) use(t *testing.T, script string, arguments ...string) used {
	t.Helper()
	result := used{failures: map[string]string{}}
	for line := range strings.Lines(n.run(t, script, arguments...)) {
		var one struct{ Version, Feature, Error string }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("the script printed %q: %v", line, err)
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

func TestTheCLIOfTheInspectorWorks(t *testing.T) {
	npm := install(t)
	service := startService(t, 3, ofStdio(programs.server))
	used := npm.use(t, "inspector.mjs", service.url)
	if len(used.failures) == 0 {
		t.Error("no command was run")
	}
	for command, failure := range used.failures {
		t.Run(command, func(t *testing.T) {
			if failure != "" {
				t.Error(failure)
			}
		})
	}
	service.hasSpread(t)
}
