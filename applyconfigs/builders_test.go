package applyconfigs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1beta1"
)

var update = flag.Bool("update", false, "write the output of the builders to the golden files")

// TestBuilders compares the children of each MCPServer in testdata with the golden file of the MCPServer. The golden files
// are also documentation: they have exactly the fields that the operator claims.
func TestBuilders(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			server := read(t, name)
			isGolden(t, name, build(t, server, Scale{Replicas: server.Spec.DeclaredReplicas(), Declared: server.Spec.DeclaredReplicas()}))
		})
	}
}

// TestClusters checks the fields of the children that depend on the cluster. The MCPServers do not declare them.
func TestClusters(t *testing.T) {
	for name, cluster := range map[string]Cluster{
		"clusters/openshift":    {AssignsUsers: true},
		"clusters/ipv6":         {IPFamily: corev1.IPv6Protocol},
		"clusters/runner-stdio": {RunnerImage: runnerImage},
		"clusters/runner-http":  {RunnerImage: runnerImage},
		"clusters/runner-sse":   {RunnerImage: runnerImage},
	} {
		t.Run(name, func(t *testing.T) {
			isGolden(t, name, []any{newSet(t, read(t, name), Scale{}, cluster)})
		})
	}
}

// TestWhoGetsARunner: a server gets a runner unless it is turned off.
func TestWhoGetsARunner(t *testing.T) {
	direct := &v1beta1.Sessions{Mode: v1beta1.SessionsDirect}
	for name, row := range map[string]struct {
		spec  v1beta1.MCPServerSpec
		image string
		want  bool
	}{
		"stdio":                      {v1beta1.MCPServerSpec{}, runnerImage, true},
		"streamable-http":            {v1beta1.MCPServerSpec{Transport: v1beta1.TransportStreamableHTTP}, runnerImage, true},
		"sse":                        {v1beta1.MCPServerSpec{Transport: v1beta1.TransportSSE}, runnerImage, true},
		"Routed":                     {v1beta1.MCPServerSpec{Sessions: &v1beta1.Sessions{Mode: v1beta1.SessionsRouted}}, runnerImage, true},
		"Direct":                     {v1beta1.MCPServerSpec{Sessions: direct}, runnerImage, false},
		"an operator without runner": {v1beta1.MCPServerSpec{}, "", false},
	} {
		if got := HasRunner(&v1beta1.MCPServer{Spec: row.spec}, Cluster{RunnerImage: row.image}); got != row.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// runnerImage is the image of a runner.
const runnerImage = "registry.example/operator:1"

// isGolden compares objects with the golden file of a case. With -update, it writes the file first.
func isGolden(t *testing.T, name string, objects []any) {
	t.Helper()
	got := marshal(t, objects...)
	golden := filepath.Join("testdata", name+".golden.yaml")
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (-golden +built). To update the file, run: go test ./applyconfigs -update\n%s", golden, diff)
	}
}

// TestReplicasAreLeftOutUnlessClaimed: an explicit null would claim the field and reset it to 1.
func TestReplicasAreLeftOutUnlessClaimed(t *testing.T) {
	declared := int32(3)
	server := read(t, "minimal")
	for name, scale := range map[string]Scale{
		"delegated": {}, "yielded": {Declared: &declared},
	} {
		if set := marshal(t, build(t, server, scale)[0]); bytes.Contains(set, []byte("\n  replicas:")) {
			t.Errorf("%s: the apply has replicas:\n%s", name, set)
		}
	}
	if set := marshal(t, build(t, server, Scale{Replicas: &declared})[0]); !bytes.Contains(set, []byte("\n  replicas: 3\n")) {
		t.Errorf("claimed 3, the apply is\n%s", set)
	}
}

func TestURLFollowsTheTransport(t *testing.T) {
	for _, test := range []struct {
		transport v1beta1.Transport
		proxyMode v1beta1.ProxyMode
		path      string
	}{
		{"", "", "/mcp"},
		{v1beta1.TransportStdio, "", "/mcp"},
		{v1beta1.TransportStdio, v1beta1.ProxyModeStreamableHTTP, "/mcp"},
		{v1beta1.TransportStdio, v1beta1.ProxyModeSSE, "/sse"},
		{v1beta1.TransportStreamableHTTP, "", "/mcp"},
		{v1beta1.TransportStreamableHTTP, v1beta1.ProxyModeSSE, "/mcp"},
		{v1beta1.TransportSSE, "", "/sse"},
	} {
		server := read(t, "minimal")
		server.Spec.Transport, server.Spec.ProxyMode = test.transport, test.proxyMode
		if got, want := URL(server), "http://mcp-web-proxy.team.svc:8080"+test.path; got != want {
			t.Errorf("%q, %q: got %s, wanted %s", test.transport, test.proxyMode, got, want)
		}
	}
}

// TestBuildersLeaveTheMCPServerAlone: the builders must not modify the MCPServer, because it belongs to the cache.
func TestBuildersLeaveTheMCPServerAlone(t *testing.T) {
	for _, name := range cases(t) {
		server := read(t, name)
		before := server.DeepCopy()
		build(t, server, Scale{Replicas: server.Spec.DeclaredReplicas(), Declared: server.Spec.DeclaredReplicas()})
		if diff := cmp.Diff(before, server); diff != "" {
			t.Errorf("%s changed (-before +after):\n%s", name, diff)
		}
	}
}

// build builds all children of an MCPServer, the StatefulSet first.
func build(t testing.TB, server *v1beta1.MCPServer, scale Scale) []any {
	t.Helper()
	fixed := fixedFor(t, server)
	all := []any{newSet(t, server, scale, Cluster{}), ClientService(server, fixed, false), HeadlessService(server, fixed)}
	if account := ServiceAccount(server); account != nil {
		all = append(all, account)
	}
	if policy := NetworkPolicy(server, fixed); policy != nil {
		all = append(all, policy)
	}
	if budget := PodDisruptionBudget(server, fixed); budget != nil {
		all = append(all, budget)
	}
	return all
}

// newSet builds the StatefulSet of an MCPServer that has none yet.
func newSet(t testing.TB, server *v1beta1.MCPServer, scale Scale, cluster Cluster, image ...*v1beta1.ImageStatus) *appsv1ac.StatefulSetApplyConfiguration {
	t.Helper()
	var of *v1beta1.ImageStatus
	if len(image) > 0 {
		of = image[0]
	}
	set, err := StatefulSet(server, scale, fixedFor(t, server), cluster, of)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func fixedFor(t testing.TB, server *v1beta1.MCPServer) Fixed {
	t.Helper()
	fixed, err := FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	return fixed
}

// cases returns the names of the MCPServers in testdata.
func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); !strings.HasSuffix(name, ".golden") {
			names = append(names, name)
		}
	}
	return names
}

func read(t testing.TB, name string) *v1beta1.MCPServer {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	server := &v1beta1.MCPServer{}
	if err := yaml.UnmarshalStrict(content, server); err != nil {
		t.Fatal(err)
	}
	return server
}

func marshal(t *testing.T, objects ...any) []byte {
	t.Helper()
	var all [][]byte
	for _, object := range objects {
		content, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	return bytes.Join(all, []byte("---\n"))
}
