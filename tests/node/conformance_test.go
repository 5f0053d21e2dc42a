package node

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

var conformanceLines = regexp.MustCompile(`(?m)^(✗ .*|Total: .*)$`)

// TestTheConformanceSuitePassesThroughTheService verifies that the official conformance suite passes against a server that has sessions, through its Service
// without affinity, with 1 and with 3 pods, as a stdio server and as an HTTP server. tests/mcp runs more of the suite, without a node.
func TestTheConformanceSuitePassesThroughTheService(t *testing.T) {
	suite := feature("conformance", "restricted").Setup(operatorHasRunner())
	for _, replicas := range []int32{1, 3} {
		declared := fmt.Sprintf("replicas: %d", replicas)
		for name, manifest := range map[string]string{
			"stdio": stdioServerOf("stdio", goImage, "[/everything-server]", declared),
			"http":  server("http", goImage, "args: [-http, ':8080', '-stateless=false']", declared),
		} {
			suite.Assess(fmt.Sprintf("%s, %d pods", name, replicas), all(apply(manifest), scaleIs(name, replicas), conforms(name)))
		}
	}
	testEnv.Test(t, suite.Feature())
}

// conforms runs the suite in a pod, and fails unless 80 of the 82 checks of 2025-11-25 pass. The suite makes the other two, about DNS rebinding, only with
// servers at localhost: they pass in tests/mcp.
func conforms(name string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		pod := startPod(ctx, t, corev1.Container{
			Name: "suite", Image: packagesImage, WorkingDir: "/tmp",
			Command: []string{
				"/usr/local/bin/node", "--import=/app/anew.mjs", "/app/node_modules/@modelcontextprotocol/conformance/dist/index.js",
				"server", "--url", mcpServer(ctx, t, name).Status.URL, "--requirements", "2025-11-25",
			},
		})
		eventually(ctx, t, "the suite to end", func(ctx context.Context) (string, bool) {
			phase := get(ctx, t, pod, &corev1.Pod{}).Status.Phase
			return string(phase), phase == corev1.PodSucceeded || phase == corev1.PodFailed
		})
		log := logOf(ctx, t, pod)
		want := []string{"✗ dns-rebinding-protection: 0 passed, 2 failed", "Total: 80 passed, 2 failed"}
		if got := conformanceLines.FindAllString(string(log), -1); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q:\n%s", got, want, log)
		}
	})
}
