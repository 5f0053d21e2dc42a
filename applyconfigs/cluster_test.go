package applyconfigs

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// securityOf returns the user, the group and the fsGroup of the pods, and whether root is refused.
func securityOf(t *testing.T, template string, cluster Cluster) string {
	t.Helper()
	server := read(t, "minimal")
	if template != "" {
		server.Spec.PodTemplateSpec = &runtime.RawExtension{Raw: []byte(template)}
	}
	context := podOf(t, server, cluster).SecurityContext
	show := func(id *int64) string {
		if id == nil {
			return "-"
		}
		return fmt.Sprint(*id)
	}
	return fmt.Sprintf("%s:%s:%s nonroot=%v", show(context.RunAsUser), show(context.RunAsGroup), show(context.FSGroup),
		ptr.Deref(context.RunAsNonRoot, false))
}

func podOf(t *testing.T, server *v1beta1.MCPServer, cluster Cluster) *corev1ac.PodSpecApplyConfiguration {
	t.Helper()
	return newSet(t, server, Scale{}, cluster).Spec.Template.Spec
}

// TestWhomThePodsRunAs: pods run as user 1000, unless the cluster or the template sets the user.
func TestWhomThePodsRunAs(t *testing.T) {
	pod := func(context string) string { return `{"spec":{"securityContext":` + context + `}}` }
	container := func(context string) string {
		return `{"spec":{"containers":[{"name":"mcp","securityContext":` + context + `}]}}`
	}
	for name, test := range map[string]struct {
		template string
		cluster  Cluster
		want     string
	}{
		"nothing is said":                         {"", Cluster{}, "1000:1000:1000 nonroot=true"},
		"OpenShift assigns users":                 {"", Cluster{AssignsUsers: true}, "-:-:- nonroot=true"},
		"the template has another user":           {pod(`{"runAsUser":65532}`), Cluster{}, "65532:1000:1000 nonroot=true"},
		"the template has another group":          {pod(`{"runAsGroup":0,"fsGroup":0}`), Cluster{}, "1000:0:0 nonroot=true"},
		"the template allows root":                {pod(`{"runAsNonRoot":false}`), Cluster{}, "-:-:1000 nonroot=false"},
		"the container allows root":               {container(`{"runAsNonRoot":false}`), Cluster{}, "-:-:1000 nonroot=true"},
		"the template allows root and has a user": {pod(`{"runAsNonRoot":false,"runAsUser":7}`), Cluster{}, "7:1000:1000 nonroot=false"},
		"the template has root":                   {pod(`{"runAsUser":0}`), Cluster{}, "0:1000:1000 nonroot=false"},
		"the container has root":                  {container(`{"runAsUser":0}`), Cluster{}, "1000:1000:1000 nonroot=true"},
		"the template has root and refuses it":    {pod(`{"runAsUser":0,"runAsNonRoot":true}`), Cluster{}, "0:1000:1000 nonroot=true"},
		"a sidecar has root": {
			`{"spec":{"containers":[{"name":"other","image":"o:1","securityContext":{"runAsUser":0}}]}}`, Cluster{}, "1000:1000:1000 nonroot=true",
		},
	} {
		if got := securityOf(t, test.template, test.cluster); got != test.want {
			t.Errorf("%s: got %s, wanted %s", name, got, test.want)
		}
	}
}

// TestServersListenWhereTheyAreReached: servers listen on :: if the first IP family of the Service is IPv6.
func TestServersListenWhereTheyAreReached(t *testing.T) {
	for family, want := range map[corev1.IPFamily]string{"": "0.0.0.0", corev1.IPv4Protocol: "0.0.0.0", corev1.IPv6Protocol: "::"} {
		variables, err := json.Marshal(podOf(t, read(t, "minimal"), Cluster{IPFamily: family}).Containers[0].Env)
		if err != nil {
			t.Fatal(err)
		}
		var all []corev1.EnvVar
		if err := json.Unmarshal(variables, &all); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, variable := range all {
			got[variable.Name] = variable.Value
		}
		if got["MCP_HOST"] != want || got["FASTMCP_HOST"] != want {
			t.Errorf("%s: MCP_HOST is %q and FASTMCP_HOST is %q, wanted %q", family, got["MCP_HOST"], got["FASTMCP_HOST"], want)
		}
	}
}
