package applyconfigs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
)

// TestAnotherPodTemplateIsAnotherRevision: if the builders change and the revision does not, an upgrade of the operator restarts all pods.
// The file has a line for each revision: its number, and a digest of the pod templates of all MCPServers in testdata.
func TestAnotherPodTemplateIsAnotherRevision(t *testing.T) {
	const file = "testdata/revisions.txt"
	var made []string
	for _, name := range cases(t) {
		server := read(t, name)
		set := build(t, server, Scale{})[0].(*appsv1ac.StatefulSetApplyConfiguration)
		digest, err := TemplateDigest(set.Spec.Template)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, digest)
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
