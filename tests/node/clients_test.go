package node

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestClientsThatOthersWroteWorkThroughTheService uses each feature with each client, from a pod, through the Service of a stdio server with three pods and
// without affinity. Each request comes on a connection of its own. tests/mcp runs the same scripts without a node.
func TestClientsThatOthersWroteWorkThroughTheService(t *testing.T) {
	stateless := []string{"call", "cancellation", "elicitation", "list", "logging", "progress", "sampling", "subscription"}
	sessions := slices.Sorted(slices.Values(append([]string{"resumption"}, stateless...)))
	commands := []string{
		"100 calls, 10 at once", "call", "call, finding the era", "call, modern", "list the prompts", "list the resources", "list the tools", "logging", "read",
	}
	test := feature("clients that others wrote", "restricted").Setup(operatorHasRunner()).
		Assess("two servers have three pods", all(apply(stdioServerOf("go", goImage, "[/everything-server]", "replicas: 3"), stdioServerOf("everything", packagesImage,
			"[/usr/local/bin/node, /app/node_modules/@modelcontextprotocol/server-everything/dist/index.js]", "replicas: 3")), scaleIs("go", 3), scaleIs("everything", 3)))
	for _, row := range []struct {
		name, script, client, server, version string
		features                              []string
	}{
		{"@modelcontextprotocol/sdk 1", "client.mjs", "sdk", "go", "2025-11-25", sessions},
		{"@modelcontextprotocol/sdk 1, server-everything", "client.mjs", "sdk", "everything", "2025-11-25", sessions},
		{"@modelcontextprotocol/client 2, modern", "client.mjs", "client-modern", "go", "2026-07-28", stateless},
		{"@modelcontextprotocol/client 2, finds out the modern", "client.mjs", "client-auto", "go", "2026-07-28", stateless},
		{"@modelcontextprotocol/client 2, falls back", "client.mjs", "client-auto", "everything", "2025-11-25", sessions},
		{"mcp-remote", "client.mjs", "mcp-remote", "go", "", sessions},
		{"CLI of the inspector", "inspector.mjs", "", "go", "", commands},
	} {
		test.Assess(row.name, step(func(ctx context.Context, t *testing.T) {
			t.Helper()
			args := []string{mcpServer(ctx, t, row.server).Status.URL}
			if row.client != "" {
				args = []string{row.client, args[0], row.server}
			}
			version, used := runScript(ctx, t, row.script, args...)
			if got := slices.Sorted(maps.Keys(used)); version != row.version || !slices.Equal(got, row.features) {
				t.Errorf("version %q, features %q, want %q, %q", version, got, row.version, row.features)
			}
			for feature, failure := range used {
				if failure != "" {
					t.Errorf("%s: %s", feature, failure)
				}
			}
		}))
	}
	testEnv.Test(t, test.Assess("requests arrived at pods without their session", all(requestsWereForwarded("go"), requestsWereForwarded("everything"))).Feature())
}

// runScript runs a script of tests/images/npm in a pod, and returns the version of the protocol and the features that it used, each with its failure or "".
func runScript(ctx context.Context, t *testing.T, script string, args ...string) (version string, used map[string]string) {
	t.Helper()
	pod := startPod(ctx, t, corev1.Container{
		Name: "client", Image: packagesImage, WorkingDir: "/tmp", Command: append([]string{"/usr/local/bin/node", "/app/" + script}, args...),
		// Some clients start other programs, and keep files at home.
		Env: []corev1.EnvVar{{Name: "NODE_OPTIONS", Value: "--import=/app/anew.mjs"}, {Name: "HOME", Value: "/tmp"}, {Name: "NO_COLOR", Value: "1"}},
	})
	hasEnded(ctx, t, pod)
	used = map[string]string{}
	log := logOf(ctx, t, pod)
	for line := range strings.Lines(string(log)) {
		var one struct{ Version, Feature, Error string }
		if json.Unmarshal([]byte(line), &one) != nil { // a message of a program that the script starts
			continue
		}
		if one.Feature == "" {
			version = one.Version
		} else {
			used[one.Feature] = one.Error
		}
	}
	if phase := get(ctx, t, pod, &corev1.Pod{}).Status.Phase; phase != corev1.PodSucceeded {
		t.Fatalf("the client is %s: %s", phase, log)
	}
	return version, used
}

// requestsWereForwarded fails unless requests of sessions arrived at pods that do not have them. All sessions can be in one of the three pods: the other two
// then have forwarded requests.
func requestsWereForwarded(name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		pods := 0
		for _, pod := range podsOf(ctx, t, name) {
			forwarded, _ := metricOf(ctx, t, pod.Name, `mcp_runner_forwarded_total{reason="session"}`)
			t.Logf("pod %s has forwarded %d requests", pod.Name, forwarded)
			if forwarded > 0 {
				pods++
			}
		}
		if pods < 2 {
			t.Errorf("%d pods have forwarded requests", pods)
		}
	})
}
