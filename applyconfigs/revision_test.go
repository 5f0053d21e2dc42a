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

// TestAnotherPodTemplateIsAnotherRevision: without another revision, an upgrade of the operator would restart all pods. The file has a line
// for each revision: its number, and the digest of what the builders make of all of testdata.
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
		t.Errorf("%s has no revision %d: go test ./applyconfigs -update adds it", file, TemplateRevision)
	default:
		t.Errorf("the builders make other pod templates than before: raise TemplateRevision and run go test ./applyconfigs -update. "+
			"(If a case was added to testdata, or one was changed, and nothing else: write %q into %s.)", line, file)
	}
}
