package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// refusedFields are the fields of ToolHive's operator that protect a server, with values that ToolHive's CRD accepts.
var refusedFields = map[string]string{
	"oidcConfig":            "{type: kubernetes}",
	"oidcConfigRef":         "{name: a, audience: b}",
	"authzConfig":           "{type: inline, inline: {policies: []}}",
	"authzConfigRef":        "{name: a}",
	"externalAuthConfigRef": "{name: a}",
	"authServerRef":         "{kind: MCPExternalAuthConfig, name: a}",
	"webhookConfigRef":      "{name: a}",
	"tools":                 "[read]",
	"toolConfigRef":         "{name: a}",
	"rateLimiting":          "{shared: {maxTokens: 1}}",
	"permissionProfile":     "{type: configmap, name: a, key: b}",
}

// ignoredFields are the fields of ToolHive's operator that have no effect.
var ignoredFields = map[string]string{
	"groupRef":           "{name: a}",
	"telemetryConfigRef": "{name: a, serviceName: b}",
	"telemetry":          "{prometheus: {enabled: true}}",
	"sessionStorage":     "{provider: redis, address: a}",
	"trustProxyHeaders":  "true",
	"endpointPrefix":     "/a",
	"resourceOverrides":  "{proxyDeployment: {env: [{name: A, value: b}], imagePullSecrets: [{name: a}]}}",
	"backendReplicas":    "2",
}

func withField(version, field, value string) string {
	return fmt.Sprintf("apiVersion: toolhive.stacklok.dev/%s\nkind: MCPServer\nmetadata: {name: web}\nspec: {image: \"registry.example/server:1\", %s: %s}\n", version, field, value)
}

// TestAFieldThatProtectsTheServerIsRefusedForEveryClient: many clients do not ask the API server to refuse unknown fields. If the field were
// unknown, they would store the MCPServer without it, and the server would run without its protection.
func TestAFieldThatProtectsTheServerIsRefusedForEveryClient(t *testing.T) {
	test := feature("protecting fields")
	for field, value := range refusedFields {
		for _, version := range []string{"v1alpha1", "v1beta1"} {
			manifest := withField(version, field, value)
			for name, args := range map[string][]string{
				"server-side apply":              {"apply", "--server-side"},
				"create without validation":      {"create", "--validate=false"},
				"client-side apply, unvalidated": {"apply", "--validate=false"},
			} {
				test = test.Assess(fmt.Sprintf("%s %s: %s", version, field, name), step(func(ctx context.Context, t *testing.T) {
					out, err := theCluster.KubectlWithInput(ctx, manifest, append(args, "-n", in(ctx), "-f", "-")...)
					if err == nil {
						t.Fatalf("accepted: %s", out)
					}
					if !containsAll(err.Error(), []string{"spec." + field, "not supported"}) {
						t.Errorf("the error does not name the field: %v", err)
					}
				}))
			}
		}
	}
	test = test.Assess("a typed client of Go", step(func(ctx context.Context, t *testing.T) {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer", "metadata": map[string]any{"name": "web", "namespace": in(ctx)},
			"spec": map[string]any{"image": "a", "oidcConfig": map[string]any{"type": "kubernetes"}},
		}}
		if err := theCluster.Client.Create(ctx, object); !apierrors.IsInvalid(err) {
			t.Errorf("got %v", err)
		}
	}))
	testEnv.Test(t, test.Feature())
}

// TestAFieldWithoutAnEffectIsAcceptedWithAWarning verifies that manifests for ToolHive's operator apply, and say what they do not get here.
func TestAFieldWithoutAnEffectIsAcceptedWithAWarning(t *testing.T) {
	test := feature("fields without an effect")
	fields := map[string]string{"audit": "{enabled: true}, sessions: {mode: Direct}"}
	fields["groupRef "] = `"a-group"` // the form of v1alpha1
	for field, value := range ignoredFields {
		fields[field] = value
	}
	for field, value := range fields {
		name := strings.TrimSpace(field)
		test = test.Assess(name+": "+value, step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "the warning", func(ctx context.Context) (string, bool) { // a policy takes effect with a delay after its installation
				out, err := theCluster.KubectlWithInput(ctx, withField("v1beta1", name, value), "apply", "--server-side", "--force-conflicts", "-n", in(ctx), "-f", "-")
				must(t, err)
				return out, containsAll(out, []string{"Warning:", "spec." + name})
			})
		}))
	}
	testEnv.Test(t, test.Assess("backendReplicas declares the scale", all(apply(withField("v1beta1", "backendReplicas", "2")), scaleIs(2), ownerIs("MCPServer"))).
		Assess("without it, the scale stays", holds(2, apply(undeclared), ownerIs("Unclaimed"))).
		Feature())
}

// TestAStoredFieldThatProtectsTheServer: ToolHive's CRD has stored the field. When the CRD is replaced, the API server does not validate
// stored objects.
func TestAStoredFieldThatProtectsTheServer(t *testing.T) {
	testEnv.Test(t, feature("stored with oidcConfig").
		Setup(all(storedByAnotherCRD(withField("v1beta1", "oidcConfig", "{type: kubernetes}")))).
		Assess("nothing is created, and the condition says why", all(
			conditionSays(v1beta1.ConditionStalled, "InvalidSpec", "spec.oidcConfig", "gateway", "mcp-web-proxy"), passesAreForced(2),
			step(func(ctx context.Context, t *testing.T) {
				if found := existing(ctx, t); len(found) > 0 {
					t.Errorf("%v exist", found)
				}
			}))).
		Assess("its metadata can be changed, but another refused field is refused", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/other"]}}`),
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`),
			step(func(ctx context.Context, t *testing.T) {
				if out, err := theCluster.Kubectl(ctx, "-n", in(ctx), "patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"tools":["a"]}}`); err == nil {
					t.Errorf("accepted: %s", out)
				}
			}))).
		Assess("without the field, the server runs", all(apply(undeclared), scaleIs(1))).
		Feature())
}

// storedByAnotherCRD stores an MCPServer with a CRD that accepts any field, and installs the CRD of this operator again.
func storedByAnotherCRD(manifest string) features.Func {
	return all(otherCRD("v1beta1"), apply(manifest), step(func(ctx context.Context, t *testing.T) {
		ours, err := filepath.Abs(filepath.Join("..", "..", "deploy", "crd"))
		must(t, err)
		clusterKubectl("apply", "--server-side", "--force-conflicts", "-k", ours)(ctx, t, nil)
	}))
}
