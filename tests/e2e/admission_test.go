package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestBadInputIsRefusedAtAdmission: what cannot work is refused before it is stored, with the field, the value and what
// is wrong with it.
func TestBadInputIsRefusedAtAdmission(t *testing.T) {
	mcpServer := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	}
	const longest = 50
	test := feature("an MCPServer")
	for _, bad := range []struct {
		what, manifest string
		says           []string
	}{
		{"without a spec", "apiVersion: toolhive.stacklok.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: web}\n",
			[]string{"spec", "Required value"}},
		{"without an image", mcpServer("web", `{replicas: 1}`), []string{"spec.image", "Required value"}},
		{"with an empty image", mcpServer("web", `{image: ""}`), []string{"spec.image", `""`, "at least 1 chars long"}},
		{"with white space in the image", mcpServer("web", `{image: "a b"}`), []string{"spec.image", "a b", "white space"}},
		{"with an unknown field", mcpServer("web", `{image: a, oidcConfig: {type: kubernetes}}`),
			[]string{"spec.oidcConfig"}},
		{"with negative replicas", mcpServer("web", `{image: a, replicas: -1}`),
			[]string{"spec.replicas", "-1", "greater than or equal to 0"}},
		{"with replicas that are no number", mcpServer("web", `{image: a, replicas: three}`),
			[]string{"spec.replicas", "string"}},
		{"with an unknown policy", mcpServer("web", `{image: a, replicasConflictPolicy: Fight}`),
			[]string{"spec.replicasConflictPolicy", "Fight", "Yield", "Force"}},
		{"with an unknown transport", mcpServer("web", `{image: a, transport: smoke-signals}`),
			[]string{"spec.transport", "smoke-signals", "stdio", "streamable-http", "sse"}},
		{"with port 0", mcpServer("web", `{image: a, proxyPort: 0}`), []string{"spec.proxyPort", "0", "greater than or equal to 1"}},
		{"with a port too high", mcpServer("web", `{image: a, mcpPort: 65536}`),
			[]string{"spec.mcpPort", "65536", "less than or equal to 65535"}},
		{"with an environment variable twice", mcpServer("web", `{image: a, env: [{name: A, value: x}, {name: A, value: z}]}`),
			[]string{"spec.env", "A", "uplicate"}},
		{"with an environment variable without a name", mcpServer("web", `{image: a, env: [{name: "", value: x}]}`),
			[]string{"spec.env", "name must not be empty"}},
		{"with a name that its children cannot have", mcpServer(strings.Repeat("a", longest+1), `{image: a}`),
			[]string{strings.Repeat("a", longest+1), "metadata.name", "50 characters"}},
		{"with a dot in its name", mcpServer("a.b", `{image: a}`), []string{"a.b", "metadata.name", "dot"}},
	} {
		test = test.Assess(bad.what, isRefused(bad.manifest, bad.says...))
	}
	testEnv.Test(t, test.
		Assess("of the longest name is accepted and gets its children", all(
			apply(mcpServer(strings.Repeat("a", longest), `{image: a}`)),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/"+strings.Repeat("a", longest)))).
		Feature())
}

// isRefused fails unless the API server refuses a manifest, in words that have all the given ones.
func isRefused(manifest string, words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, how := range [][]string{{"create"}, {"apply", "--server-side"}} {
			out, err := theCluster.KubectlWithInput(ctx, manifest, append(how, "-n", in(ctx), "-f", "-")...)
			if err == nil {
				t.Fatalf("kubectl %s accepted it", how)
			}
			if !containsAll(out, words) {
				t.Errorf("kubectl %s has to say %q, but says: %s", how, words, out)
			}
		}
	})
}
