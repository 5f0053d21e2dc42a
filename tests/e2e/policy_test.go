package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestThePolicyForTenants verifies that the policy in deploy/examples/policies refuses what docs/security.md says, with a message that names
// the way out, and nothing else.
func TestThePolicyForTenants(t *testing.T) {
	test := feature("the policy for tenants").Setup(tenantPolicy())
	for _, row := range []struct {
		spec string
		says string // empty for an MCPServer that is accepted
	}{
		{`{image: a}`, ""},
		{`{image: a, serviceAccount: mcp-tools}`, ""},
		{`{image: a, volumes: [{name: data, mountPath: /data, emptyDir: {}}]}`, ""},
		{`{image: a, podTemplateSpec: {spec: {containers: [{name: mcp, securityContext: {privileged: false}}]}}}`, ""},
		{`{image: a, podTemplateSpec: {metadata: {annotations: {a: b}}}}`, ""},
		{`{image: a, serviceAccount: mcp-tools, podTemplateSpec: {spec: {automountServiceAccountToken: true}}}`, ""},
		{`{image: a, volumes: [{name: host, mountPath: /host, hostPath: /}]}`, "hostPath volumes are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {volumes: [{name: host, hostPath: {path: /}}]}}}`, "hostPath volumes are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {containers: [{name: mcp, securityContext: {privileged: true}}]}}}`, "privileged containers are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {initContainers: [{name: init, securityContext: {privileged: true}}]}}}`, "privileged containers are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {hostNetwork: true}}}`, "hostNetwork, hostPID and hostIPC are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {hostPID: true}}}`, "hostNetwork, hostPID and hostIPC are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {hostIPC: true}}}`, "hostNetwork, hostPID and hostIPC are not allowed"},
		{`{image: a, serviceAccount: admin}`, "this ServiceAccount is not allowed"},
		{`{image: a, podTemplateSpec: {spec: {serviceAccountName: admin}}}`, "this ServiceAccount is not allowed"},
		{`{image: a, podTemplateSpec: {spec: {serviceAccount: admin}}}`, "this ServiceAccount is not allowed"},
		{`{image: a, podTemplateSpec: {spec: {automountServiceAccountToken: true}}}`, "credentials of the ServiceAccount are not allowed"},
		{`{image: a, podTemplateSpec: {spec: {volumes: [{name: token, projected: {sources: [{serviceAccountToken: {path: token}}]}}]}}}`,
			"credentials of the ServiceAccount are not allowed"},
	} {
		test = test.Assess(row.spec, step(func(ctx context.Context, t *testing.T) {
			out, err := theCluster.KubectlWithInput(ctx, mcpServerWith(row.spec), "apply", "--server-side", "--dry-run=server", "-n", in(ctx), "-f", "-")
			switch {
			case row.says == "":
				must(t, err)
			case err == nil:
				t.Fatalf("it was accepted: %s", out)
			case !strings.Contains(err.Error(), row.says):
				t.Fatalf("the message does not have %q: %v", row.says, err)
			}
		}))
	}
	testEnv.Test(t, test.
		Assess("an MCPServer from before the policy can be labeled", all(clusterKubectl("delete", "validatingadmissionpolicybinding", "mcpserver-tenants"),
			policyIsInForce(false), applyWith(func(context.Context) string { return mcpServerWith(`{image: a, serviceAccount: admin}`) }),
			tenantPolicy(), kubectl("label", "mcpserver", "web", "team=a"))).
		Feature())
}

func mcpServerWith(spec string) string {
	return fmt.Sprintf("{apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, metadata: {name: web}, spec: %s}", spec)
}

// tenantPolicy applies the policy to the namespace of the test until the feature ends, and waits until it is in force.
func tenantPolicy() features.Func {
	return all(afterwards(clusterKubectl("delete", "--ignore-not-found",
		"validatingadmissionpolicy/mcpserver-tenants", "validatingadmissionpolicybinding/mcpserver-tenants")), step(func(ctx context.Context, t *testing.T) {
		content, err := os.ReadFile(filepath.Join("..", "..", "deploy", "examples", "policies", "tenant-policy.yaml"))
		must(t, err)
		_, document, found := strings.Cut(string(content), "\n---\n")
		if !found {
			t.Fatal("the file has no binding")
		}
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
		must(t, yaml.Unmarshal([]byte(document), binding))
		binding.Spec.MatchResources = &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: in(ctx)},
		}}
		_, err = theCluster.KubectlWithInput(ctx, strings.TrimSuffix(string(content), document), "apply", "--server-side", "-f", "-")
		must(t, err)
		must(t, theCluster.Client.Create(ctx, binding))
	}), policyIsInForce(true))
}

// policyIsInForce waits until the API server has seen that there is a policy, or none.
func policyIsInForce(is bool) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		eventually(ctx, t, fmt.Sprintf("the policy to be in force: %t", is), func(ctx context.Context) (string, bool) {
			_, err := theCluster.KubectlWithInput(ctx, mcpServerWith(`{image: a, serviceAccount: another}`), "apply", "--server-side", "--dry-run=server", "-n", in(ctx), "-f", "-")
			return fmt.Sprint(err), (err != nil) == is
		})
	})
}
