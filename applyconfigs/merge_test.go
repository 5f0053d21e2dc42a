package applyconfigs

import (
	stdcmp "cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1beta1"
)

// TestMergeOfATemplate checks the result for entries that both the operator and the user set.
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

// TestUsersOfATemplate checks the user of each container, and whether the kubelet lets the container run as this user. The
// format is "user:group", or "image" for the user of the image, followed by "nonroot" if root is refused. The values of the
// container replace those of the pod.
func TestUsersOfATemplate(t *testing.T) {
	for _, test := range []struct {
		name, user      string
		server, sidecar string
	}{
		{"nothing", `{spec: {containers: [{name: sidecar}]}}`, "1000:1000 nonroot", "1000:1000 nonroot"},
		{"a user of the pod", `{spec: {securityContext: {runAsUser: 2000}, containers: [{name: sidecar}]}}`,
			"2000:1000 nonroot", "2000:1000 nonroot"},
		{"a group of the pod", `{spec: {securityContext: {runAsGroup: 0}, containers: [{name: sidecar}]}}`,
			"1000:0 nonroot", "1000:0 nonroot"},
		{"a user of the server", `{spec: {containers: [{name: mcp, securityContext: {runAsUser: 2000, runAsGroup: 3000}}, {name: sidecar}]}}`,
			"2000:3000 nonroot", "1000:1000 nonroot"},
		{"a user of the sidecar", `{spec: {containers: [{name: sidecar, securityContext: {runAsUser: 2000}}]}}`,
			"1000:1000 nonroot", "2000:1000 nonroot"},
		{"the user of the image, by the pod", `{spec: {securityContext: {runAsNonRoot: false}, containers: [{name: sidecar}]}}`,
			"image:image", "image:image"},
		{"the user of the image, by the server", `{spec: {containers: [{name: mcp, securityContext: {runAsNonRoot: false}}, {name: sidecar}]}}`,
			"image:image", "image:image nonroot"},
		{"the user of the image, with a user of the sidecar",
			`{spec: {securityContext: {runAsNonRoot: false}, containers: [{name: sidecar, securityContext: {runAsUser: 2000}}]}}`,
			"image:image", "2000:image"},
		{"the user of the image, with a group", `{spec: {securityContext: {runAsNonRoot: false, runAsGroup: 3000}, containers: [{name: sidecar}]}}`,
			"image:3000", "image:3000"},
		{"any user, with one of the pod", `{spec: {securityContext: {runAsNonRoot: false, runAsUser: 2000}, containers: [{name: sidecar}]}}`,
			"2000:1000", "2000:1000"},
		{"any user of the server, with one of the pod",
			`{spec: {securityContext: {runAsUser: 2000}, containers: [{name: mcp, securityContext: {runAsNonRoot: false}}, {name: sidecar}]}}`,
			"2000:1000", "2000:1000 nonroot"},
		{"any user of the server, with the user of the server",
			`{spec: {containers: [{name: mcp, securityContext: {runAsNonRoot: false, runAsUser: 2000}}, {name: sidecar}]}}`,
			"2000:1000", "1000:1000 nonroot"},
		{"any user of the sidecar", `{spec: {containers: [{name: sidecar, securityContext: {runAsNonRoot: false}}]}}`,
			"1000:1000 nonroot", "1000:1000"},
		{"root by the pod", `{spec: {securityContext: {runAsUser: 0}, containers: [{name: sidecar}]}}`, "0:1000", "0:1000"},
		{"root by the server", `{spec: {containers: [{name: mcp, securityContext: {runAsUser: 0}}, {name: sidecar}]}}`,
			"0:1000", "1000:1000 nonroot"},
		{"root by the sidecar", `{spec: {containers: [{name: sidecar, securityContext: {runAsUser: 0}}]}}`,
			"1000:1000 nonroot", "0:1000"},
		{"root by an init container", `{spec: {initContainers: [{name: sidecar, securityContext: {runAsUser: 0}}]}}`,
			"1000:1000 nonroot", "0:1000"},
		{"root that the template refuses itself",
			`{spec: {securityContext: {runAsNonRoot: true}, containers: [{name: mcp, securityContext: {runAsUser: 0}}, {name: sidecar}]}}`,
			"0:1000 nonroot", "1000:1000 nonroot"},
		{"null leaves out what the operator sets", `{spec: {securityContext: {runAsUser: null, runAsNonRoot: null}, containers: [{name: sidecar}]}}`,
			"image:1000", "image:1000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			merged, err := merge(baseTemplate(t), test.user)
			if err != nil {
				t.Fatal(err)
			}
			if group := merged.Spec.SecurityContext.FSGroup; group == nil || *group != 1000 {
				t.Errorf("the group of the volumes is %v", group)
			}
			for container, wanted := range map[string]string{ContainerName: test.server, "sidecar": test.sidecar} {
				if got := runsAs(merged.Spec, container); got != wanted {
					t.Errorf("%s runs as %s, wanted %s", container, got, wanted)
				}
			}
		})
	}
}

// runsAs returns the user of a container, by the rules of the kubelet.
func runsAs(pod *corev1ac.PodSpecApplyConfiguration, container string) string {
	context := &corev1ac.SecurityContextApplyConfiguration{}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if *c.Name == container && c.SecurityContext != nil {
			context = c.SecurityContext
		}
	}
	id := func(id *int64) string {
		if id == nil {
			return "image"
		}
		return strconv.FormatInt(*id, 10)
	}
	as := id(stdcmp.Or(context.RunAsUser, pod.SecurityContext.RunAsUser)) + ":" +
		id(stdcmp.Or(context.RunAsGroup, pod.SecurityContext.RunAsGroup))
	if nonRoot := stdcmp.Or(context.RunAsNonRoot, pod.SecurityContext.RunAsNonRoot); nonRoot != nil && *nonRoot {
		as += " nonroot"
	}
	return as
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

// TestMergeProperties: for every template of the user, its values are in the merged template, no list has a duplicate key,
// and a second merge changes nothing.
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

// FuzzMerge: no input causes a panic, and each template that is accepted has the properties of TestMergeProperties.
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
		var server v1beta1.MCPServer
		if err := yaml.Unmarshal(content, &server); err == nil && server.Spec.PodTemplateSpec != nil {
			f.Add(server.Spec.PodTemplateSpec.Raw)
		}
	}
	f.Add([]byte(`{"spec":{"containers":[{"name":"mcp","env":[{"name":"NODE","value":""}]}],"volumes":[{"name":"scratch"}]}}`))
	f.Add([]byte(`{"spec":{"containers":[{"name":"mcp","resources":{"limits":{"cpu":"1000m","memory":1024}}}]}}`))
	f.Fuzz(func(t *testing.T, user []byte) { checkMerge(t, baseTemplate(t), user) })
}

// failer is the common interface of testing and rapid.
type failer interface {
	Fatalf(format string, args ...any)
}

// checkMerge reports whether the user's template is accepted. It fails if the merged template violates a property.
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
	whole, err := typedTemplate(content) // fails if a list has a duplicate key
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
	canonical(theirs, kept)
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

// canonical replaces the values of a template by those of the object that was read from it, in which a quantity such as 1000m is 1.
func canonical(value, read any) any {
	switch value := value.(type) {
	case map[string]any:
		read, _ := read.(map[string]any)
		for key := range value {
			value[key] = canonical(value[key], read[key])
		}
	case []any:
		read, _ := read.([]any)
		for i := range min(len(value), len(read)) {
			value[i] = canonical(value[i], read[i])
		}
	default:
		if read != nil {
			return read
		}
	}
	return value
}

// drawTemplate draws a partial template. Its entries often have names that the operator's template also has.
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
		if rapid.Bool().Draw(t, "its user") {
			container.(map[string]any)["securityContext"] = drawSecurityContext(t) //nolint:forcetypeassert // made above
		}
	}
	pod := map[string]any{"containers": containers, "volumes": list(source, "volumes")}
	if rapid.Bool().Draw(t, "more") {
		pod["tolerations"] = []any{map[string]any{"key": "a", "operator": "Exists"}}
		pod["hostNetwork"] = rapid.Bool().Draw(t, "hostNetwork")
		pod["securityContext"] = drawSecurityContext(t)
	}
	return map[string]any{"spec": pod}
}

// drawSecurityContext draws the user settings of a pod or a container.
func drawSecurityContext(t *rapid.T) map[string]any {
	context := map[string]any{}
	draw := func(field string, values ...any) { // nil leaves the field out
		if value := rapid.SampledFrom(values).Draw(t, field); value != nil {
			context[field] = value
		}
	}
	draw("runAsNonRoot", nil, true, false)
	draw("runAsUser", nil, int64(0), int64(2000))
	draw("runAsGroup", nil, int64(0), int64(2000))
	return context
}

// baseTemplate is the operator's template with an example of each field that a template of the user can conflict with.
func baseTemplate(t testing.TB) *corev1ac.PodTemplateSpecApplyConfiguration {
	t.Helper()
	server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{
		Image: "registry.example/server:1",
		Env: []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"},
		}}},
		Volumes: []v1beta1.Volume{{Name: "scratch", MountPath: "/scratch", EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}}
	server.Name = "web"
	template, err := podTemplate(server, fixedFor(t, server), Cluster{}, nil)
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
