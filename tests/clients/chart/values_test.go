package chart

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestAWrongValueIsRefused verifies that the message names the invalid value and the valid ones.
func TestAWrongValueIsRefused(t *testing.T) {
	for _, row := range []struct {
		values string
		words  []string
	}{
		{`{replicaCount: 3}`, []string{"'replicaCount' not allowed"}},
		{`{image: {name: operator}}`, []string{"/image", "'name' not allowed"}},
		{`{image: {repository: ""}}`, []string{"/image/repository", "minLength"}},
		{`{image: {tag: 1.0}}`, []string{"/image/tag", "got number, want string"}},
		{`{image: {tag: "a b"}}`, []string{"/image/tag", "pattern"}},
		{`{image: {digest: sha256:abc}}`, []string{"/image/digest", "pattern"}},
		{`{image: {pullPolicy: Sometimes}}`, []string{"/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"}},
		{`{imagePullSecrets: [registry]}`, []string{"/imagePullSecrets/0", "want object"}},
		{`{replicas: two}`, []string{"/replicas", "got string, want integer"}},
		{`{replicas: -1}`, []string{"/replicas", "minimum", "want 0"}},
		{`{replicas: 100}`, []string{"/replicas", "maximum", "want 10"}},
		{`{concurrency: 0}`, []string{"/concurrency", "minimum", "want 1"}},
		{`{concurrency: 1000}`, []string{"/concurrency", "maximum", "want 100"}},
		{`{logLevel: verbose}`, []string{"/logLevel", "'debug', 'info', 'error'"}},
		{`{namespaces: team-a}`, []string{"/namespaces", "want array"}},
		{`{namespaces: [Team_A]}`, []string{"/namespaces/0", "pattern"}},
		{`{namespaces: [team-a, team-a]}`, []string{"/namespaces", "items at 0 and 1 are equal"}},
		{`{crds: {install: true}}`, []string{"/crds", "'install' not allowed"}},
		{`{crds: {keep: "yes"}}`, []string{"/crds/keep", "want boolean"}},
		{`{shared: {enabled: false}}`, []string{"set namespaces"}},
		{`{shared: false}`, []string{"/shared", "want object"}},
		{`{scaleWarnings: true}`, []string{"/scaleWarnings", "want object"}},
		{`{metrics: {enabled: 1}}`, []string{"/metrics/enabled", "want boolean"}},
		{`{metrics: {certificateSecret: My_Secret}}`, []string{"/metrics/certificateSecret", "pattern"}},
		{`{monitoring: {enable: true}}`, []string{"/monitoring", "'enable' not allowed"}},
		{`{monitoring: {labels: {release: 1}}}`, []string{"/monitoring/labels/release", "want string"}},
		{`{serviceAccount: {annotations: {role: 1}}}`, []string{"/serviceAccount/annotations/role", "want string"}},
		{`{resources: {limit: {memory: 1Gi}}}`, []string{"/resources", "'limit' not allowed"}},
		{`{podDisruptionBudget: {minAvailable: 1}}`, []string{"/podDisruptionBudget", "'minAvailable' not allowed"}},
		{`{podAnnotations: {scrape: true}}`, []string{"/podAnnotations/scrape", "want string"}},
		{`{podLabels: {app.kubernetes.io/name: other}}`, []string{"/podLabels/app.kubernetes.io~1name", "false schema"}},
		{`{nodeSelector: [linux]}`, []string{"/nodeSelector", "want object"}},
		{`{tolerations: {key: gpu}}`, []string{"/tolerations", "want array"}},
		{`{affinity: {nodeAffinty: {}}}`, []string{"/affinity", "'nodeAffinty' not allowed"}},
		{`{topologySpreadConstraints: {maxSkew: 1}}`, []string{"/topologySpreadConstraints", "want array"}},
		{`{priorityClassName: 1}`, []string{"/priorityClassName", "want string"}},
	} {
		t.Run(row.values, func(t *testing.T) {
			_, err := render(t, theChart(t), row.values)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, word := range row.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the message does not contain %q:\n%s", word, err)
				}
			}
		})
	}
}

// TestEachValueTakesEffect verifies that each value changes an object, and that the table covers every value of the schema.
func TestEachValueTakesEffect(t *testing.T) {
	const (
		deployment = "Deployment mcpserver-operator-system/mcpserver-operator"
		pod        = "spec.template.spec."
		container  = "spec.template.spec.containers.0."
		// withoutRunner begins values without the runner, so that the argument with its image is left out.
		withoutRunner = "{runner: {enabled: false}, "
		// further are the values of a further release.
		further = "{shared: {enabled: false}, namespaces: [team-a], scaleWarnings: {enabled: true}, monitoring: {enabled: true}}"
	)
	tested := map[string]bool{"enabled": true, "global": true} // see TestAsADependency
	for _, row := range []struct {
		values string
		object string
		path   string
		want   string // YAML; empty if the object must not exist
	}{
		{`{image: {repository: registry.example/operator, tag: v1}}`, deployment, container + "image", `registry.example/operator:v1`},
		{`{image: {digest: "sha256:` + strings.Repeat("a", 64) + `", tag: v1}}`, deployment, container + "image",
			`mcpserver-operator@sha256:` + strings.Repeat("a", 64)},
		{`{image: {pullPolicy: Never}}`, deployment, container + "imagePullPolicy", `Never`},
		{`{imagePullSecrets: [{name: registry}]}`, deployment, pod + "imagePullSecrets", `[{name: registry}]`},
		{`{replicas: 0}`, deployment, "spec.replicas", `0`},
		{`{image: {repository: registry.example/operator, tag: "2"}}`, deployment, container + "args", `[--leader-elect, --runner-image=registry.example/operator:2]`},
		{`{runner: {enabled: false}}`, deployment, container + "args", `[--leader-elect]`},
		{`{runner: null, imageLookup: null}`, deployment, container + "args", `[--leader-elect]`}, // as with --reuse-values of an earlier chart
		{withoutRunner + `imageLookup: {enabled: false, credentialsSecret: a, caConfigMap: b}}`, deployment, container + "args", `[--leader-elect, --image-lookup=false]`},
		{withoutRunner + `imageLookup: {enabled: false, credentialsSecret: a, caConfigMap: b}}`, deployment, pod + "volumes", `null`},
		{withoutRunner + `imageLookup: {caConfigMap: b}}`, deployment, container + "args", `[--leader-elect, --registry-ca-file=/etc/registry-authorities/ca.crt]`},
		{`{imageLookup: {caConfigMap: b}}`, deployment, container + "volumeMounts",
			`[{name: registry-authorities, mountPath: /etc/registry-authorities, readOnly: true}]`},
		{`{imageLookup: {credentialsSecret: a}}`, deployment, container + "env", `[{name: DOCKER_CONFIG, value: /etc/registry-credentials}]`},
		{`{imageLookup: {credentialsSecret: a, caConfigMap: b}}`, deployment, pod + "volumes",
			`[{name: registry-credentials, secret: {secretName: a, items: [{key: .dockerconfigjson, path: config.json}]}}, {name: registry-authorities, configMap: {name: b}}]`},
		{withoutRunner + `concurrency: 8}`, deployment, container + "args", `[--leader-elect, --concurrency=8]`},
		{withoutRunner + `logLevel: debug}`, deployment, container + "args", `[--leader-elect, --zap-log-level=debug]`},
		{withoutRunner + `namespaces: [team-a, team-b]}`, deployment, container + "args", `[--leader-elect, "--namespaces=team-a,team-b"]`},
		{`{namespaces: [team-a]}`, "RoleBinding team-a/mcpserver-operator", "roleRef.name", `mcpserver-operator`},
		{`{namespaces: [team-a]}`, "ClusterRoleBinding /mcpserver-operator", "", ``},
		{further, "CustomResourceDefinition /mcpservers.toolhive.stacklok.dev", "", ``},
		{further, "ClusterRole /mcpserver-operator", "", ``},
		{further, "ValidatingAdmissionPolicy /mcpserver-deprecated-fields", "", ``},
		{further, "PrometheusRule mcpserver-operator-system/mcpserver-operator", "", ``},
		{further, "ServiceMonitor mcpserver-operator-system/mcpserver-operator", "spec.endpoints.0.port", `https`},
		{further, "ClusterRoleBinding /mcpserver-operator-metrics-auth-mcpserver-operator-system", "roleRef.name", `mcpserver-operator-metrics-auth`},
		{`{shared: null}`, "ClusterRole /mcpserver-operator", "metadata.name", `mcpserver-operator`}, // as with --reuse-values of an earlier chart
		{`{crds: {enabled: false}}`, "CustomResourceDefinition /mcpservers.toolhive.stacklok.dev", "", ``},
		{`{crds: {keep: false}}`, "CustomResourceDefinition /mcpservers.toolhive.stacklok.dev", "metadata.annotations",
			`{controller-gen.kubebuilder.io/version: v0.23.0}`},
		{`{scaleWarnings: {enabled: true}}`, "ValidatingAdmissionPolicyBinding /autoscaled-workloads", "spec.validationActions", `[Warn]`},
		{`{scaleWarnings: {enabled: true}}`, "ValidatingAdmissionPolicy /mcpserver-autoscaled", "spec.failurePolicy", `Ignore`},
		{`{scaleWarnings: null}`, "ValidatingAdmissionPolicy /mcpserver-autoscaled", "", ``}, // as with --reuse-values of an earlier chart
		{withoutRunner + `metrics: {enabled: false}}`, deployment, container + "args", `[--leader-elect, --metrics-bind-address=0]`},
		{`{metrics: {enabled: false}}`, deployment, container + "ports", `[{name: probes, containerPort: 8081}]`},
		{`{metrics: {enabled: false}}`, "Service mcpserver-operator-system/mcpserver-operator-metrics", "", ``},
		{`{metrics: {enabled: false}}`, "ClusterRoleBinding /mcpserver-operator-metrics-auth", "", ``},
		// A further release may serve metrics.
		{`{metrics: {enabled: false}}`, "ClusterRole /mcpserver-operator-metrics-auth", "metadata.name", `mcpserver-operator-metrics-auth`},
		{`{metrics: {enabled: false}}`, "ClusterRole /mcpserver-operator-metrics-reader", "metadata.name", `mcpserver-operator-metrics-reader`},
		{withoutRunner + `metrics: {certificateSecret: tls}}`, deployment, container + "args",
			`[--leader-elect, --metrics-cert-path=/etc/metrics-certificate]`},
		{`{metrics: {certificateSecret: tls}}`, deployment, container + "volumeMounts",
			`[{name: metrics-certificate, mountPath: /etc/metrics-certificate, readOnly: true}]`},
		{`{metrics: {certificateSecret: tls}}`, deployment, pod + "volumes",
			`[{name: metrics-certificate, secret: {secretName: tls}}]`},
		{`{metrics: {enabled: false, certificateSecret: tls}}`, deployment, pod + "volumes", `null`},
		{`{monitoring: {enabled: false, labels: {a: b}}}`, "PrometheusRule mcpserver-operator-system/mcpserver-operator", "", ``},
		{`{monitoring: null}`, "ServiceMonitor mcpserver-operator-system/mcpserver-operator", "", ``}, // as with --reuse-values of an earlier chart
		{`{monitoring: {enabled: true}}`, "ConfigMap mcpserver-operator-system/mcpserver-operator-dashboards", "metadata.labels.grafana_dashboard", `"1"`},
		{`{monitoring: {enabled: true, labels: {release: prometheus}}}`, "PodMonitor mcpserver-operator-system/mcpserver-runners",
			"metadata.labels.release", `prometheus`},
		{`{serviceAccount: {annotations: {role: a}}}`, "ServiceAccount mcpserver-operator-system/mcpserver-operator",
			"metadata.annotations", `{role: a}`},
		{`{resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}}`, deployment, container + "resources",
			`{requests: {cpu: 1, memory: 64Mi}, limits: {memory: 1Gi}}`},
		{`{podDisruptionBudget: {enabled: true}}`, "PodDisruptionBudget mcpserver-operator-system/mcpserver-operator",
			"spec.maxUnavailable", `1`},
		{`{podAnnotations: {team: a}}`, deployment, "spec.template.metadata.annotations",
			`{kubectl.kubernetes.io/default-container: manager, team: a}`},
		{`{podLabels: {team: a}}`, deployment, "spec.template.metadata.labels",
			`{app.kubernetes.io/name: mcpserver-operator, team: a}`},
		{`{nodeSelector: {disk: ssd}}`, deployment, pod + "nodeSelector", `{disk: ssd}`},
		{`{tolerations: [{key: infra, operator: Exists}]}`, deployment, pod + "tolerations", `[{key: infra, operator: Exists}]`},
		{`{affinity: {nodeAffinity: {a: 1}, podAffinity: {b: 2}, podAntiAffinity: {c: 3}}}`, deployment, pod + "affinity",
			`{nodeAffinity: {a: 1}, podAffinity: {b: 2}, podAntiAffinity: {c: 3}}`},
		{`{topologySpreadConstraints: [{topologyKey: zone}]}`, deployment, pod + "topologySpreadConstraints", `[{topologyKey: zone}]`},
		{`{priorityClassName: system-cluster-critical}`, deployment, pod + "priorityClassName", `system-cluster-critical`},
	} {
		t.Run(row.values+" "+row.path, func(t *testing.T) {
			for _, path := range leaves(values(t, row.values), "") {
				tested[path] = true
			}
			manifests, err := render(t, theChart(t), row.values)
			must(t, err)
			object := byName(t, manifests)[row.object]
			if row.want == "" || object == nil {
				if (row.want == "") != (object == nil) {
					t.Fatalf("%s exists: %t", row.object, object != nil)
				}
				return
			}
			var want any
			must(t, yaml.Unmarshal([]byte(row.want), &want))
			if difference := cmp.Diff(toJSON(t, want), toJSON(t, at(object.Object, row.path))); difference != "" {
				t.Errorf("%s of %s:\n%s", row.path, row.object, difference)
			}
		})
	}
	for _, path := range schemaLeaves(t) {
		if !tested[path] {
			t.Errorf("no row covers the value %s of the schema", path)
		}
	}
}

// at returns the value at a path of keys and indices.
func at(value any, path string) any {
	for _, step := range strings.Split(path, ".") {
		switch in := value.(type) {
		case map[string]any:
			value = in[step]
		case []any:
			value = in[0] // the only container
		}
	}
	return value
}

// leaves returns the paths of the given values, at the depth of the schema. See schemaLeaves.
func leaves(set map[string]any, under string) []string {
	var paths []string
	for name, value := range set {
		paths = append(paths, under+name)
		if nested, isObject := value.(map[string]any); isObject {
			paths = append(paths, leaves(nested, under+name+".")...)
		}
	}
	return paths
}

// schemaLeaves returns the path of each value in the schema.
func schemaLeaves(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("../../../deploy/chart/values.schema.json")
	must(t, err)
	type schema struct {
		AdditionalProperties any // false if only the names in Properties are allowed
		Properties           map[string]json.RawMessage
	}
	var paths []string
	var walk func(content []byte, under string)
	walk = func(content []byte, under string) {
		var node schema
		must(t, json.Unmarshal(content, &node))
		for _, name := range slices.Sorted(maps.Keys(node.Properties)) {
			var below schema
			must(t, json.Unmarshal(node.Properties[name], &below))
			if below.AdditionalProperties != false {
				paths = append(paths, under+name)
				continue
			}
			walk(node.Properties[name], under+name+".")
		}
	}
	walk(content, "")
	return paths
}

func toJSON(t *testing.T, value any) string {
	t.Helper()
	content, err := json.MarshalIndent(value, "", " ")
	must(t, err)
	return string(content)
}
