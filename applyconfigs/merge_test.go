package applyconfigs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1alpha1"
)

// TestMergeOfATemplate: what becomes of an entry that both the operator and the user set.
func TestMergeOfATemplate(t *testing.T) {
	for _, test := range []struct {
		name, user string
		wanted     func(pod *corev1ac.PodSpecApplyConfiguration) bool
	}{
		{"false replaces true", `{spec: {containers: [{name: mcp, stdin: false}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool { return pod.Containers[0].Stdin == nil }},
		{"true replaces false", `{spec: {automountServiceAccountToken: true}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool { return *pod.AutomountServiceAccountToken }},
		{"a list without keys is replaced", `{spec: {containers: [{name: mcp, securityContext: {capabilities: {drop: [NET_RAW]}}}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				drop := pod.Containers[0].SecurityContext.Capabilities.Drop
				return len(drop) == 1 && drop[0] == "NET_RAW"
			}},
		{"a container is merged by name", `{spec: {containers: [{name: mcp, workingDir: /srv}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				return len(pod.Containers) == 1 && *pod.Containers[0].WorkingDir == "/srv" && *pod.Containers[0].Image == "registry.example/server:1"
			}},
		{"another container is added", `{spec: {containers: [{name: sidecar, image: a}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool { return len(pod.Containers) == 2 }},
		{"a value of a variable replaces where it came from", `{spec: {containers: [{name: mcp, env: [{name: NODE, value: x}]}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				for _, variable := range pod.Containers[0].Env {
					if *variable.Name == "NODE" {
						return *variable.Value == "x" && variable.ValueFrom == nil
					}
				}
				return false
			}},
		{"the former name of the account counts", `{spec: {serviceAccount: other}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				return *pod.ServiceAccountName == "other" && pod.DeprecatedServiceAccount == nil
			}},
		{"privileges need their escalation", `{spec: {containers: [{name: mcp, securityContext: {privileged: true}}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				return pod.Containers[0].SecurityContext.AllowPrivilegeEscalation == nil
			}},
		{"a source of a volume replaces another", `{spec: {volumes: [{name: scratch, configMap: {name: c}}]}}`,
			func(pod *corev1ac.PodSpecApplyConfiguration) bool {
				return len(pod.Volumes) == 1 && pod.Volumes[0].EmptyDir == nil && *pod.Volumes[0].ConfigMap.Name == "c"
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			merged, err := merge(baseTemplate(t), test.user)
			if err != nil {
				t.Fatal(err)
			}
			if !test.wanted(merged.Spec) {
				t.Errorf("merged:\n%s", marshal(t, merged))
			}
		})
	}
}

// TestTemplatesThatCannotBeMerged: the error has the path.
func TestTemplatesThatCannotBeMerged(t *testing.T) {
	for user, says := range map[string]string{
		`{spec: {containers: [{name: mcp, imagee: a}]}}`:                      `.containers[name="mcp"].imagee`,
		`{spec: {containers: [{name: a}, {name: a}]}}`:                        `name="a"`,
		`{spec: {nodeSelector: [a]}}`:                                         `.template.spec.nodeSelector`,
		`{spec: {containers: [{name: mcp, ports: [{containerPort: 1e20}]}]}}`: `containerPort`,
		`[]`: `parsing`,
	} {
		if _, err := merge(baseTemplate(t), user); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the error has to say %q, but is %v", user, says, err)
		}
	}
}

// TestMergeProperties: whatever the user's template, what it sets is in the merged one, no list has a key twice, and
// merging it again changes nothing.
func TestMergeProperties(t *testing.T) {
	base := baseTemplate(t)
	rapid.Check(t, func(t *rapid.T) {
		user, err := json.Marshal(drawTemplate(t))
		if err != nil {
			t.Fatal(err)
		}
		if !checkMerge(t, base, user) {
			t.Fatalf("%s was refused", user)
		}
	})
}

// FuzzMerge: no input makes it panic, and what it accepts has the same properties.
func FuzzMerge(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var server v1alpha1.MCPServer
		if err := yaml.Unmarshal(content, &server); err == nil && server.Spec.PodTemplateSpec != nil {
			f.Add(server.Spec.PodTemplateSpec.Raw)
		}
	}
	f.Add([]byte(`{"spec":{"containers":[{"name":"mcp","env":[{"name":"NODE","value":""}]}],"volumes":[{"name":"scratch"}]}}`))
	f.Fuzz(func(t *testing.T, user []byte) { checkMerge(t, baseTemplate(t), user) })
}

// failer is what testing and rapid have in common.
type failer interface {
	Fatalf(format string, args ...any)
}

// checkMerge reports whether the user's template is accepted, and fails when the merged one is not as it has to be.
func checkMerge(t failer, base *corev1ac.PodTemplateSpecApplyConfiguration, user []byte) bool {
	merged, err := mergePodTemplate(base, user)
	if err != nil {
		return false
	}
	again, err := mergePodTemplate(merged, user)
	if err != nil {
		t.Fatalf("%s: merged once, it is refused: %v", user, err)
	}
	if diff := cmp.Diff(merged, again); diff != "" {
		t.Fatalf("%s: merging it again changes (-once +twice):\n%s", user, diff)
	}

	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(merged)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	whole, err := typedTemplate(content) // fails on a key that is there twice
	if err != nil {
		t.Fatalf("%s: the merged template does not fit the schema: %v", user, err)
	}
	theirs := map[string]any{}
	if err := json.Unmarshal(user, &theirs); err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	var object corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(theirs, &object); err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	kept, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	keep(theirs, kept)
	part, err := typedTemplate(theirs)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	withTheirs, err := whole.Merge(part)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	comparison, err := whole.Compare(withTheirs)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	if !comparison.Modified.Empty() || !comparison.Added.Empty() {
		t.Fatalf("%s: the user's values are not all in the merged template: %s", user, comparison)
	}
	return true
}

// drawTemplate draws a partial template whose names are often those of the operator's.
func drawTemplate(t *rapid.T) map[string]any {
	names := rapid.SampledFrom([]string{"mcp", "scratch", "NODE", "MCP_PORT", "other"})
	value := rapid.OneOf(
		rapid.Just(map[string]any{"value": "x"}), rapid.Just(map[string]any{"value": ""}), rapid.Just(map[string]any{}),
		rapid.Just(map[string]any{"valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": "metadata.name"}}}),
	)
	source := rapid.OneOf(
		rapid.Just(map[string]any{"emptyDir": map[string]any{"medium": "Memory"}}), rapid.Just(map[string]any{"emptyDir": map[string]any{}}),
		rapid.Just(map[string]any{"configMap": map[string]any{"name": "c"}}), rapid.Just(map[string]any{}),
	)
	list := func(entry *rapid.Generator[map[string]any], label string) []any {
		all := []any{}
		for _, name := range rapid.SliceOfNDistinct(names, 0, 3, rapid.ID).Draw(t, label) {
			object := map[string]any{"name": name}
			for key, value := range entry.Draw(t, label) {
				object[key] = value
			}
			all = append(all, object)
		}
		return all
	}
	probe := rapid.SampledFrom([]map[string]any{
		{}, {"readinessProbe": map[string]any{"httpGet": map[string]any{"port": "mcp"}}}, {"startupProbe": map[string]any{"exec": map[string]any{"command": []any{"a"}}}},
		{"livenessProbe": map[string]any{"tcpSocket": map[string]any{"port": int64(1)}}, "stdin": false},
	})
	containers := list(probe, "containers")
	for _, container := range containers {
		container.(map[string]any)["env"] = list(value, "env") //nolint:forcetypeassert // made above
	}
	pod := map[string]any{"containers": containers, "volumes": list(source, "volumes")}
	if rapid.Bool().Draw(t, "more") {
		pod["tolerations"] = []any{map[string]any{"key": "a", "operator": "Exists"}}
		pod["hostNetwork"] = rapid.Bool().Draw(t, "hostNetwork")
		pod["securityContext"] = map[string]any{"runAsNonRoot": rapid.Bool().Draw(t, "runAsNonRoot")}
	}
	return map[string]any{"spec": pod}
}

// baseTemplate is the operator's template with something of everything that a user's can meet.
func baseTemplate(t testing.TB) *corev1ac.PodTemplateSpecApplyConfiguration {
	t.Helper()
	server := &v1alpha1.MCPServer{Spec: v1alpha1.MCPServerSpec{
		Image: "registry.example/server:1",
		Env: []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"},
		}}},
		Volumes: []v1alpha1.Volume{{Name: "scratch", MountPath: "/scratch", EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}}
	server.Name = "web"
	fixed, err := FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	template, err := podTemplate(server, fixed, Cluster{})
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// merge merges a template that is written as YAML.
func merge(base *corev1ac.PodTemplateSpecApplyConfiguration, user string) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	content, err := yaml.YAMLToJSON([]byte(user))
	if err != nil {
		return nil, err
	}
	return mergePodTemplate(base, content)
}
