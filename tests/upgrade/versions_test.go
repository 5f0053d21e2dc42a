package upgrade

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mcpserver-operator/tests/cluster"
)

// earlier is the commit of the earlier operator. Its CRD has only the version v1alpha1, and its StatefulSets have no record of their pod
// template. Its source is in testdata/, because a clone in CI may not have the history. It was written there with
//
//	git archive c33c44e -- main.go applyconfigs crd reconcile deploy/crd deploy/rbac deploy/admission \
//	  ':!*_test.go' ':!applyconfigs/testdata' | gzip -9n > tests/upgrade/testdata/operator-c33c44e.tar.gz
const earlier = "c33c44e"

// runnerImage is the image of the present operator, which has the runner.
const runnerImage = "registry.example/operator:2"

// release is a version of the operator.
type release struct {
	root string // the folder with its source
	name string
	args []string
}

// earlierRelease unpacks the earlier operator. It is built with the libraries of the present one, which are already compiled.
func earlierRelease(t *testing.T) release {
	t.Helper()
	root := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join("testdata", "operator-"+earlier+".tar.gz"), "-C", root)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpacking the earlier operator: %v: %s", err, out)
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("..", "..", file))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(root, file), content, 0o600))
	}
	return release{root: root, name: earlier}
}

// presentRelease is the operator of this repository, with the runner, as deploy/ starts it. It asks no registry for images.
func presentRelease(t *testing.T) release {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	must(t, err)
	return release{root: root, name: "present", args: []string{"--runner-image=" + runnerImage, "--image-lookup=false"}}
}

// install installs the CRD, the permissions and the admission policy of the release.
func (r release) install(t *testing.T) {
	t.Helper()
	must(t, theCluster.InstallFrom(t.Context(), r.root, "deploy/crd", "deploy/admission", "deploy/rbac"))
}

// installPermissions installs the permissions and the admission policy of the release, and not the CRD.
func (r release) installPermissions(t *testing.T) {
	t.Helper()
	must(t, theCluster.InstallFrom(t.Context(), r.root, "deploy/admission", "deploy/rbac"))
}

// start starts the operator, which stops when the test ends or with stop.
func (r release) start(t *testing.T) *cluster.Operator {
	t.Helper()
	operator, err := theCluster.StartOperatorFrom(t.Context(), r.root, r.name, r.args...)
	must(t, err)
	t.Cleanup(func() {
		if err := operator.Stop(); err != nil {
			t.Error(err)
		}
	})
	return operator
}
