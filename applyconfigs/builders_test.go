package applyconfigs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1alpha1"
)

var update = flag.Bool("update", false, "write what the builders make to the golden files")

// TestBuilders compares what is made of each MCPServer in testdata with the golden file beside it. The golden files are
// also documentation: every field in them is a field that the operator claims.
func TestBuilders(t *testing.T) {
	for _, name := range []string{"minimal", "everything"} {
		t.Run(name, func(t *testing.T) {
			server := read(t, name)
			got := marshal(t,
				StatefulSet(server, Scale{Replicas: server.Spec.Replicas, Declared: server.Spec.Replicas}),
				ClientService(server), HeadlessService(server))
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
				t.Errorf("differs from %s (-golden +made); go test ./applyconfigs -update writes it anew:\n%s", golden, diff)
			}
		})
	}
}

// TestReplicasAreLeftOutUnlessClaimed: an explicit null would claim the field, and reset it to 1.
func TestReplicasAreLeftOutUnlessClaimed(t *testing.T) {
	declared := int32(3)
	server := read(t, "minimal")
	for name, scale := range map[string]Scale{
		"delegated": {}, "yielded": {Declared: &declared},
	} {
		if set := marshal(t, StatefulSet(server, scale)); bytes.Contains(set, []byte("\n  replicas:")) {
			t.Errorf("%s: the apply has replicas:\n%s", name, set)
		}
	}
	if set := marshal(t, StatefulSet(server, Scale{Replicas: &declared})); !bytes.Contains(set, []byte("\n  replicas: 3\n")) {
		t.Errorf("claimed 3, the apply is\n%s", set)
	}
}

func TestURLFollowsTheTransport(t *testing.T) {
	server := read(t, "minimal")
	for transport, want := range map[v1alpha1.Transport]string{
		"":                               "http://mcp-web-proxy.team.svc.cluster.local:8080/mcp",
		v1alpha1.TransportStdio:          "http://mcp-web-proxy.team.svc.cluster.local:8080/mcp",
		v1alpha1.TransportStreamableHTTP: "http://mcp-web-proxy.team.svc.cluster.local:8080/mcp",
		v1alpha1.TransportSSE:            "http://mcp-web-proxy.team.svc.cluster.local:8080/sse",
	} {
		server.Spec.Transport = transport
		if got := URL(server); got != want {
			t.Errorf("%q: got %s, wanted %s", transport, got, want)
		}
	}
}

// TestBuildersLeaveTheMCPServerAlone: it belongs to the cache.
func TestBuildersLeaveTheMCPServerAlone(t *testing.T) {
	server := read(t, "everything")
	before := server.DeepCopy()
	StatefulSet(server, Scale{Replicas: server.Spec.Replicas, Declared: server.Spec.Replicas})
	ClientService(server)
	HeadlessService(server)
	if diff := cmp.Diff(before, server); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func read(t *testing.T, name string) *v1alpha1.MCPServer {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	server := &v1alpha1.MCPServer{}
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
