package applyconfigs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
)

// TestAnotherPodTemplateIsAnotherRevision: if the builders change and the revision does not, an upgrade of the operator restarts all pods.
// The file has a line for each revision: its number, and a digest of the pod templates of all MCPServers in
// testdata, each on the kinds of clusters on which pods depend.
func TestAnotherPodTemplateIsAnotherRevision(t *testing.T) {
	const file = "testdata/revisions.txt"
	var made []string
	for _, name := range cases(t) {
		for _, cluster := range []Cluster{{}, {AssignsUsers: true}, {IPFamily: corev1.IPv6Protocol}} {
			digest, err := TemplateDigest(newSet(t, read(t, name), Scale{}, cluster).Spec.Template)
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, digest)
		}
	}
	all := sha256.Sum256([]byte(strings.Join(made, " ")))
	line := fmt.Sprintf("%d %s", TemplateRevision, hex.EncodeToString(all[:16]))
	content, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	known := ""
	for _, one := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		if strings.HasPrefix(one, fmt.Sprintf("%d ", TemplateRevision)) {
			known = one
		}
	}
	switch {
	case known == line:
	case known == "" && *update:
		if err := os.WriteFile(file, []byte(string(content)+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	case known == "":
		t.Errorf("%s has no revision %d. To add it, run: go test ./applyconfigs -update", file, TemplateRevision)
	default:
		t.Errorf("the builders build other pod templates than before: raise TemplateRevision and run go test ./applyconfigs -update. "+
			"If only testdata changed, write %q into %s instead.", line, file)
	}
}

// TestInputsOfThePodTemplate verifies that only changes that may affect the pods change the digest of an MCPServer.
func TestInputsOfThePodTemplate(t *testing.T) {
	digest := func(change func(*v1beta1.MCPServerSpec)) string {
		server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
		change(&server.Spec)
		got, err := InputsDigest(server, "")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := digest(func(*v1beta1.MCPServerSpec) {})
	for name, row := range map[string]struct {
		change  func(*v1beta1.MCPServerSpec)
		affects bool
	}{
		"image":     {func(s *v1beta1.MCPServerSpec) { s.Image = "registry.example/server:2" }, true},
		"env":       {func(s *v1beta1.MCPServerSpec) { s.Env = []corev1.EnvVar{{Name: "A"}} }, true},
		"proxyPort": {func(s *v1beta1.MCPServerSpec) { s.ProxyPort = ptr.To[int32](80) }, true},
		"ipFamilies": {func(s *v1beta1.MCPServerSpec) {
			s.Service = &v1beta1.ClientService{IPFamilies: []corev1.IPFamily{"IPv6"}}
		}, true},
		"service type": {func(s *v1beta1.MCPServerSpec) { s.Service = &v1beta1.ClientService{Type: "NodePort"} }, false},
		"replicas":     {func(s *v1beta1.MCPServerSpec) { s.Replicas = ptr.To[int32](3) }, false},
		"suspend":      {func(s *v1beta1.MCPServerSpec) { s.Suspend = true }, false},
		"policy":       {func(s *v1beta1.MCPServerSpec) { s.ReplicasConflictPolicy = v1beta1.ReplicasConflictForce }, false},
		"minReady":     {func(s *v1beta1.MCPServerSpec) { s.MinReadySeconds = ptr.To[int32](3) }, false},
		"audit":        {func(s *v1beta1.MCPServerSpec) { s.Audit = &v1beta1.Audit{Enabled: true} }, false}, // an upgrade must not restart pods
		"a disruption": {func(s *v1beta1.MCPServerSpec) { s.PodDisruptionBudget = &v1beta1.PodDisruptionBudget{Disabled: true} }, false},
	} {
		if got := digest(row.change) != before; got != row.affects {
			t.Errorf("%s: affects the pods: %t, want %t", name, got, row.affects)
		}
	}
}
