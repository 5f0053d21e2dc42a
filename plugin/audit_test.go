package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1beta1"
)

// TestAudit: a field is found in whichever version of the API shows it, once.
func TestAudit(t *testing.T) {
	for name, test := range map[string]struct {
		views []string
		want  []string
	}{
		"everything is carried out": {[]string{`{image: a, transport: stdio, secrets: [{name: s, key: k}]}`}, nil},
		"two versions": {
			[]string{`{image: a, tools: [x], groupRef: g}`, `{image: a, groupRef: {name: g}, oidcConfigRef: {name: o}}`},
			[]string{"spec.oidcConfigRef refused", "spec.tools refused", "spec.groupRef no effect"},
		},
		"a log of requests":           {[]string{`{audit: {enabled: true}}`}, []string{"spec.audit changed"}},
		"no log of requests":          {[]string{`{audit: {enabled: false}}`}, nil},
		"a profile in a ConfigMap":    {[]string{`{permissionProfile: {type: configmap, name: p}}`}, []string{"spec.permissionProfile.type refused"}},
		"a builtin profile":           {[]string{`{permissionProfile: {type: builtin, name: none}}`}, nil},
		"overrides of the proxy":      {[]string{`{resourceOverrides: {proxyDeployment: {labels: {a: b}}, proxyService: {labels: {a: b}}}}`}, []string{"spec.resourceOverrides.proxyDeployment no effect"}},
		"limits of the proxy only":    {[]string{`{resources: {limits: {memory: 128Mi}}}`}, []string{"spec.resources changed"}},
		"a limit that is an integer":  {[]string{`{resources: {limits: {cpu: 1}}}`}, []string{"spec.resources changed"}},
		"requests of the proxy only":  {[]string{`{resources: {requests: {memory: 128Mi}}}`}, nil},
		"the server has its own too":  {[]string{`{resources: {limits: {memory: 128Mi}}, podTemplateSpec: {spec: {containers: [{name: mcp, resources: {limits: {memory: 1Gi}}}]}}}`}, nil},
		"only a sidecar has its own":  {[]string{`{resources: {limits: {memory: 128Mi}}, podTemplateSpec: {spec: {containers: [{name: side, resources: {}}]}}}`}, []string{"spec.resources changed"}},
		"fields that nobody knows":    {[]string{`{guard: {enabled: true}, secrets: [{name: s, key: k, mode: x}]}`}, []string{"spec.guard unknown", "spec.secrets[0].mode unknown"}},
		"replicas of the proxy":       {[]string{`{replicas: 3}`}, []string{"spec.replicas changed"}},
		"replicas of both":            {[]string{`{replicas: 2, backendReplicas: 4}`}, []string{"spec.backendReplicas refused"}},
		"replicas that are equal":     {[]string{`{replicas: 2, backendReplicas: 2}`}, nil},
		"a spec that is not readable": {[]string{`{tools: 5}`}, []string{"spec refused"}},
	} {
		server := &storedServer{NamespacedName: types.NamespacedName{Namespace: "team", Name: "web"}}
		for _, spec := range test.views {
			view := map[string]any{}
			if err := yaml.Unmarshal([]byte("metadata: {finalizers: [mcpserver.toolhive.stacklok.dev/finalizer]}\nspec: "+spec), &view); err != nil {
				t.Fatal(err)
			}
			server.views = append(server.views, view)
		}
		var got []string
		for _, f := range auditOf(server) {
			got = append(got, fmt.Sprint(f.Field, " ", f.Class))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestWhatIsMeantForThisOperatorIsNoFinding: without ToolHive's finalizer, limits and replicas are those of the server.
func TestWhatIsMeantForThisOperatorIsNoFinding(t *testing.T) {
	view := map[string]any{}
	if err := yaml.Unmarshal([]byte(`spec: {replicas: 2, backendReplicas: 2, resources: {limits: {memory: 128Mi}}}`), &view); err != nil {
		t.Fatal(err)
	}
	if found := auditOf(&storedServer{views: []map[string]any{view}}); len(found) > 0 {
		t.Errorf("got %+v", found)
	}
}

// TestTheAuditBoundsStoredText: ToolHive's CRD may accept any text as a quantity.
func TestTheAuditBoundsStoredText(t *testing.T) {
	server := &storedServer{views: []map[string]any{{
		"metadata": map[string]any{"finalizers": []any{v1beta1.ToolHiveFinalizer}},
		"spec":     map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "\x1b[31m" + strings.Repeat("a", 4096)}}},
	}}}
	found := auditOf(server)
	if len(found) == 0 {
		t.Fatal("nothing is found")
	}
	for _, one := range found {
		if len(one.Note) > 2*mostShown || strings.Contains(one.Note, "\x1b") {
			t.Errorf("got %q", one.Note)
		}
	}
}
