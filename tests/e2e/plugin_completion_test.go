package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// completes fails unless kubectl completes the arguments of kubectl mcpserver, in the namespace of the test, to exactly these words.
func completes(words []string, args ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		at := len(args) - 1
		out, err := theCluster.CompletePlugin(ctx, slices.Insert(slices.Clone(args), at, "--namespace="+in(ctx))...)
		must(t, err)
		var got []string
		for line := range strings.Lines(out) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); word != "" && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, words) {
			t.Errorf("completed %q to %q, want %q", args, got, words)
		}
	})
}

// TestKubectlCompletesThePlugin verifies the file that make build puts beside the plugin, with kubectl itself.
func TestKubectlCompletesThePlugin(t *testing.T) {
	testEnv.Test(t, feature("completion").
		Setup(all(apply(undeclared), apply(strings.Replace(undeclared, "{name: web}", "{name: files}", 1)))).
		Assess("of a command", completes([]string{"takeover"}, "take")).
		Assess("of names", completes([]string{"files", "web"}, "explain", "")).
		Assess("no name comes after --all-namespaces", completes(nil, "audit", "-A", "")).
		Assess("no second name", completes(nil, "explain", "web", "")).
		Feature())
}

// TestThePluginHasTheContextsOfKubectl verifies that --context and --kubeconfig choose the cluster and the namespace, as for kubectl.
func TestThePluginHasTheContextsOfKubectl(t *testing.T) {
	testEnv.Test(t, feature("contexts").
		Setup(apply(strings.Replace(undeclared, "spec: {", "spec: {groupRef: {name: all}, ", 1))).
		Assess("the namespace is that of the context", step(func(ctx context.Context, t *testing.T) {
			content, err := os.ReadFile(theCluster.Kubeconfig)
			must(t, err)
			config := filepath.Join(t.TempDir(), "config")
			must(t, os.WriteFile(config, content, 0o600))
			kubectl := func(args ...string) string {
				out, err := theCluster.Kubectl(ctx, append([]string{"--kubeconfig=" + config, "config"}, args...)...)
				must(t, err)
				return strings.TrimSpace(out)
			}
			kubectl("set-context", "team", "--namespace="+in(ctx), "--cluster="+kubectl("view", "-o", "jsonpath={.contexts[0].context.cluster}"),
				"--user="+kubectl("view", "-o", "jsonpath={.contexts[0].context.user}"))
			code, stdout, stderr, err := theCluster.Plugin(ctx, "development", "", "audit", "--kubeconfig="+config, "--context=team")
			must(t, err)
			if code != exitFound || !containsAll(stdout, []string{in(ctx), "spec.groupRef"}) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})).
		Assess("an unknown context is an error", plugin(exitError, []string{`context "absent" does not exist`}, "audit", "--context=absent")).
		Feature())
}
