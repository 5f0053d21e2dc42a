package chart

import (
	"fmt"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheCRDLeavesTheReleaseAndComesBack verifies that disabling and enabling the CRD in the release keeps the CRD, the MCPServers and
// their pods.
func TestTheCRDLeavesTheReleaseAndComesBack(t *testing.T) {
	helmInstall(t, theChart(t), "")
	startOperator(t, "1.0.0")
	namespace := newNamespace(t)
	kubectlApply(t, namespace, webManifest)
	isReady(t, namespace)
	before, crd := mcpServer(t, namespace), crdUID(t)
	pods := watchPods(t, namespace)

	for _, enabled := range []bool{false, true} {
		helmUpgrade(t, theChart(t), fmt.Sprintf(`{crds: {enabled: %t}}`, enabled))
		if now := crdUID(t); now != crd {
			t.Fatalf("with crds.enabled %t, the CRD was recreated: %s", enabled, now)
		}
		isAsBefore(t, namespace, before)
		pods.nothingMoved(t, fmt.Sprintf("with crds.enabled %t", enabled))
	}
	// The CRD belongs to the release again.
	helmUpgrade(t, nextVersion(t), "")
	crdIsOfTheNextVersion(t, true)
	pods.nothingMoved(t, "with the CRD of the next version")
}

// TestWithoutKeepTheCRDGoes verifies that disabling the CRD deletes it, and every MCPServer with it, if it was installed without keep.
// Setting keep in the same upgrade is too late.
func TestWithoutKeepTheCRDGoes(t *testing.T) {
	deleteCRD(t) // an earlier release has kept its CRD
	helmInstall(t, theChart(t), `{crds: {keep: false}}`)
	namespace := newNamespace(t)
	kubectlApply(t, namespace, webManifest)
	helmUpgrade(t, theChart(t), `{crds: {enabled: false, keep: true}}`)
	eventually(t, "the CRD to be deleted", func() (string, bool) {
		left := kubectl(t, "get", "crd", theCRD, "--ignore-not-found", "-o", "name")
		return left, left == ""
	})
}

func crdUID(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "crd", theCRD, "-o", "jsonpath={.metadata.uid}")
}

// isReady waits until MCPServer "web" is Ready.
func isReady(t *testing.T, namespace string) {
	t.Helper()
	eventually(t, "the MCPServer to be Ready", func() (string, bool) {
		server := mcpServer(t, namespace)
		return fmt.Sprint(server.Status), apimeta.IsStatusConditionTrue(server.Status.Conditions, v1beta1.ConditionReady)
	})
}
