package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// TestBadInputIsRefusedAtAdmission verifies that invalid input is rejected before it is stored. The error contains the field, the
// value and the reason.
func TestBadInputIsRefusedAtAdmission(t *testing.T) {
	mcpServer := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	}
	const longest = 50
	test := feature("an MCPServer")
	for _, bad := range []struct {
		what, manifest string
		says           []string
	}{
		{"without a spec", "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: web}\n",
			[]string{"spec", "Required value"}},
		{"without an image", mcpServer("web", `{replicas: 1}`), []string{"spec.image", "Required value"}},
		{"with an empty image", mcpServer("web", `{image: ""}`), []string{"spec.image", `""`, "at least 1 chars long"}},
		{"with white space in the image", mcpServer("web", `{image: "a b"}`), []string{"spec.image", "a b", "white space"}},
		{"with an unknown field", mcpServer("web", `{image: a, imge: b}`), []string{"spec.imge"}},
		{"with an unknown field in the template", mcpServer("web", `{image: a, podTemplateSpec: {spec: {contaners: []}}}`),
			[]string{"spec.podTemplateSpec.spec.contaners"}},
		{"with a field of the pod in a container", mcpServer("web", `{image: a, podTemplateSpec: {spec: {containers: [{name: mcp, securityContext: {fsGroup: 1}}]}}}`),
			[]string{"spec.podTemplateSpec.spec.containers[", "securityContext.fsGroup"}},
		{"with other backend replicas", mcpServer("web", `{image: a, replicas: 1, backendReplicas: 2}`),
			[]string{"spec.backendReplicas", "alias of replicas", "remove backendReplicas"}},
		{"with a node port of a ClusterIP", mcpServer("web", `{image: a, service: {nodePort: 30000}}`),
			[]string{"spec.service.nodePort", "NodePort or LoadBalancer"}},
		{"with negative replicas", mcpServer("web", `{image: a, replicas: -1}`),
			[]string{"spec.replicas", "-1", "greater than or equal to 0"}},
		{"with replicas that are not a number", mcpServer("web", `{image: a, replicas: three}`),
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
		{"with two ports that differ", mcpServer("web", `{image: a, port: 80, proxyPort: 81}`),
			[]string{"spec.port", "alias of proxyPort", "remove port"}},
		{"with two container ports that differ", mcpServer("web", `{image: a, targetPort: 80, mcpPort: 81}`),
			[]string{"spec.targetPort", "alias of mcpPort", "remove targetPort"}},
		{"with an unknown proxy mode", mcpServer("web", `{image: a, proxyMode: stdio}`),
			[]string{"spec.proxyMode", "stdio", "sse", "streamable-http"}},
		{"with an unknown pull policy", mcpServer("web", `{image: a, imagePullPolicy: Sometimes}`),
			[]string{"spec.imagePullPolicy", "Sometimes", "IfNotPresent"}},
		{"with a pull secret twice", mcpServer("web", `{image: a, imagePullSecrets: [{name: a}, {name: a}]}`),
			[]string{"spec.imagePullSecrets", "uplicate"}},
		{"with a command that is not a list", mcpServer("web", `{image: a, command: server}`), []string{"spec.command"}},
		{"with a secret without a key", mcpServer("web", `{image: a, secrets: [{name: a}]}`), []string{"spec.secrets[0].key", "Required"}},
		{"with a secret that clashes with env", mcpServer("web", `{image: a, env: [{name: TOKEN, value: x}], secrets: [{name: a, key: TOKEN}]}`),
			[]string{"spec.secrets", "same environment variable", "another targetEnvName"}},
		{"with two secrets that clash", mcpServer("web", `{image: a, secrets: [{name: a, key: A, targetEnvName: B}, {name: a, key: B}]}`),
			[]string{"spec.secrets", "same environment variable"}},
		{"with a volume without a source", mcpServer("web", `{image: a, volumes: [{name: v, mountPath: /v}]}`),
			[]string{"spec.volumes[0]", "exactly one of hostPath"}},
		{"with a volume with two sources", mcpServer("web", `{image: a, volumes: [{name: v, mountPath: /v, hostPath: /v, emptyDir: {}}]}`),
			[]string{"spec.volumes[0]", "exactly one of hostPath"}},
		{"with a volume without a mount path", mcpServer("web", `{image: a, volumes: [{name: v, emptyDir: {}}]}`),
			[]string{"spec.volumes[0].mountPath", "Required"}},
		{"with a volume twice", mcpServer("web", `{image: a, volumes: [{name: v, mountPath: /v, emptyDir: {}}, {name: v, mountPath: /w, emptyDir: {}}]}`),
			[]string{"spec.volumes", "v", "uplicate"}},
		{"with two volumes at one path", mcpServer("web", `{image: a, volumes: [{name: v, mountPath: /v, emptyDir: {}}, {name: w, mountPath: /v, emptyDir: {}}]}`),
			[]string{"spec.volumes", "same mountPath"}},
		{"with a colon in a path", mcpServer("web", `{image: a, volumes: [{name: v, mountPath: "/a:b", emptyDir: {}}]}`),
			[]string{"spec.volumes[0].mountPath", "colon"}},
		{"with a claim twice", mcpServer("web", `{image: a, volumeClaimTemplates: [{metadata: {name: c}, spec: {}}, {metadata: {name: c}, spec: {}}]}`),
			[]string{"spec.volumeClaimTemplates", "same metadata.name"}},
		{"with a claim without a name", mcpServer("web", `{image: a, volumeClaimTemplates: [{metadata: {}, spec: {}}]}`),
			[]string{"spec.volumeClaimTemplates[0].metadata.name", "Required"}},
		{"with a size that is not a quantity", mcpServer("web", `{image: a, volumeClaimTemplates: [{metadata: {name: c}, spec: {resources: {requests: {storage: much}}}}]}`),
			[]string{"spec.volumeClaimTemplates[0].spec.resources.requests.storage", "much"}},
		{"with an unknown retention", mcpServer("web", `{image: a, persistentVolumeClaimRetentionPolicy: {whenDeleted: Archive}}`),
			[]string{"spec.persistentVolumeClaimRetentionPolicy", "Retain or Delete"}},
		{"with an unknown update strategy", mcpServer("web", `{image: a, updateStrategy: {type: Recreate}}`),
			[]string{"spec.updateStrategy", "RollingUpdate or OnDelete"}},
		{"with resources that are not a quantity", mcpServer("web", `{image: a, resources: {limits: {cpu: fast}}}`),
			[]string{"spec.resources.limits.cpu", "fast"}},
		{"with an empty service account", mcpServer("web", `{image: a, serviceAccount: ""}`),
			[]string{"spec.serviceAccount", "at least 1 chars long"}},
		{"with a permission profile from a ConfigMap", mcpServer("web", `{image: a, permissionProfile: {type: configmap, name: p, key: profile.json}}`),
			[]string{"spec.permissionProfile.type", "configmap is not supported", "NetworkPolicy of your own"}},
		{"with an unknown profile", mcpServer("web", `{image: a, permissionProfile: {type: builtin, name: all}}`),
			[]string{"spec.permissionProfile.name", "none or network"}},
		{"with an unknown field in the template", withTemplate("{spec: {containers: [{name: mcp, imagee: a}]}}"),
			[]string{"spec.podTemplateSpec.spec.containers[", "].imagee"}},
		{"with a container without a name in the template", withTemplate("{spec: {containers: [{image: a}]}}"),
			[]string{"spec.podTemplateSpec.spec.containers", "name"}},
		{"with a container twice in the template", withTemplate("{spec: {containers: [{name: mcp}, {name: mcp}]}}"),
			[]string{"spec.podTemplateSpec.spec.containers", "mcp", "uplicate"}},
		{"with a label of the operator in the template", withTemplate("{metadata: {labels: {app.kubernetes.io/name: x}}}"),
			[]string{"spec.podTemplateSpec.metadata.labels", "app.kubernetes.io/name", "use others"}},
		{"with a label of the operator on a child", mcpServer("web", `{image: a, resourceOverrides: {statefulSet: {labels: {app.kubernetes.io/instance: x}}}}`),
			[]string{"spec.resourceOverrides.statefulSet.labels", "app.kubernetes.io/name", "use others"}},
		{"with an annotation of the operator on a child", mcpServer("web", `{image: a, resourceOverrides: {statefulSet: {annotations: {toolhive.stacklok.dev/declared-replicas: "3"}}}}`),
			[]string{"spec.resourceOverrides.statefulSet.annotations", "toolhive.stacklok.dev/"}},
		{"with an unknown child", mcpServer("web", `{image: a, resourceOverrides: {sidecar: {labels: {a: b}}}}`),
			[]string{"spec.resourceOverrides.sidecar"}},
		{"with an unknown affinity", mcpServer("web", `{image: a, sessionAffinity: Cookie}`),
			[]string{"spec.sessionAffinity", "Cookie", "ClientIP", "None"}},
		{"with an affinity timeout without affinity", mcpServer("web", `{image: a, sessionAffinity: None, sessionAffinityTimeoutSeconds: 5}`),
			[]string{"spec.sessionAffinityTimeoutSeconds", "only with sessionAffinity ClientIP"}},
		{"with an affinity timeout of more than a day", mcpServer("web", `{image: a, sessionAffinityTimeoutSeconds: 86401}`),
			[]string{"spec.sessionAffinityTimeoutSeconds", "86401", "less than or equal to 86400"}},
		{"with an unknown Service type", mcpServer("web", `{image: a, service: {type: ExternalName}}`),
			[]string{"spec.service.type", "ExternalName", "LoadBalancer"}},
		{"with a load balancer class without a load balancer", mcpServer("web", `{image: a, service: {loadBalancerClass: a/b}}`),
			[]string{"spec.service.loadBalancerClass", "only with type LoadBalancer"}},
		{"with an unknown IP family", mcpServer("web", `{image: a, service: {ipFamilies: [IPv5]}}`),
			[]string{"spec.service.ipFamilies", "IPv4 or IPv6"}},
		{"with an unknown distribution", mcpServer("web", `{image: a, service: {trafficDistribution: Anywhere}}`),
			[]string{"spec.service.trafficDistribution", "Anywhere", "PreferSameZone"}},
		{"with both limits of a budget", mcpServer("web", `{image: a, podDisruptionBudget: {maxUnavailable: 1, minAvailable: 1}}`),
			[]string{"spec.podDisruptionBudget", "exclude each other"}},
		{"with a limit of a disabled budget", mcpServer("web", `{image: a, podDisruptionBudget: {maxUnavailable: 1, disabled: true}}`),
			[]string{"spec.podDisruptionBudget", "disabled"}},
		{"with a negative limit of a budget", mcpServer("web", `{image: a, podDisruptionBudget: {maxUnavailable: -1}}`),
			[]string{"spec.podDisruptionBudget.maxUnavailable", "from 0"}},
		{"with a limit of a budget that is not a percentage", mcpServer("web", `{image: a, podDisruptionBudget: {minAvailable: half}}`),
			[]string{"spec.podDisruptionBudget.minAvailable", "percentage"}},
		{"with a negative minReadySeconds", mcpServer("web", `{image: a, minReadySeconds: -1}`),
			[]string{"spec.minReadySeconds", "-1", "greater than or equal to 0"}},
		{"with a negative grace period", mcpServer("web", `{image: a, terminationGracePeriodSeconds: -1}`),
			[]string{"spec.terminationGracePeriodSeconds", "-1", "greater than or equal to 0"}},
		{"with an update strategy that is not an object", mcpServer("web", `{image: a, updateStrategy: OnDelete}`),
			[]string{"spec.updateStrategy"}},
		{"with a spread without a key", mcpServer("web", `{image: a, topologySpreadConstraints: [{maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}`),
			[]string{"spec.topologySpreadConstraints[0].topologyKey", "Required"}},
		{"with an envFrom of an unknown kind", mcpServer("web", `{image: a, envFrom: [{vaultRef: {name: a}}]}`),
			[]string{"spec.envFrom[0].vaultRef"}},
		{"with a name that is too long for its children", mcpServer(strings.Repeat("a", longest+1), `{image: a}`),
			[]string{strings.Repeat("a", longest+1), "metadata.name", "50 characters"}},
		{"with a dot in its name", mcpServer("a.b", `{image: a}`), []string{"a.b", "metadata.name", "dot"}},
	} {
		test = test.Assess(bad.what, isRefused(bad.manifest, bad.says...))
	}
	for field, replacement := range map[string]string{"port": "proxyPort", "targetPort": "mcpPort"} {
		test = test.Assess("with the deprecated "+field+" is accepted with a warning", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "the warning", func(ctx context.Context) (string, bool) { // a policy takes effect with a delay after its installation
				out, err := theCluster.KubectlWithInput(ctx, mcpServer("deprecated", fmt.Sprintf("{image: a, %s: 80}", field)),
					"apply", "--server-side", "--dry-run=server", "-n", in(ctx), "-f", "-")
				must(t, err)
				return out, containsAll(out, []string{"Warning", "spec." + field + " is deprecated: use spec." + replacement})
			})
		}))
	}
	testEnv.Test(t, test.
		Assess("with the longest name is accepted and gets its children", all(
			apply(mcpServer(strings.Repeat("a", longest), `{image: a}`)),
			kubectl("wait", "--for=condition=Ready", "--timeout=90s", "mcpserver/"+strings.Repeat("a", longest)))).
		Feature())
}

// isRefused fails unless the API server rejects a manifest with a message that contains all the given words.
func isRefused(manifest string, words ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		for _, how := range [][]string{{"create"}, {"apply", "--server-side"}} {
			out, err := theCluster.KubectlWithInput(ctx, manifest, append(how, "-n", in(ctx), "-f", "-")...)
			if err == nil {
				t.Fatalf("kubectl %s succeeded, but must be rejected", how)
			}
			if !containsAll(out, words) {
				t.Errorf("kubectl %s: want a message with %q, got: %s", how, words, out)
			}
		}
	})
}
