package chart

import (
	"fmt"
	"testing"

	"helm.sh/helm/v4/pkg/action"
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

// TestTheReleaseReplacesTheCRDOfAnotherOperator verifies that the chart replaces a CRD that has stored objects in both versions, that the
// objects stay readable, and that the next version can be installed afterwards.
func TestTheReleaseReplacesTheCRDOfAnotherOperator(t *testing.T) {
	must(t, theCluster.ReplaceCRD(t.Context(), "v1alpha1"))
	namespace := newNamespace(t)
	const manifest = `{apiVersion: toolhive.stacklok.dev/%s, kind: MCPServer, metadata: {name: %s}, spec: {image: "registry.example/server:1", command: [server]}}`
	kubectlApply(t, namespace, fmt.Sprintf(manifest, "v1alpha1", "older"))
	must(t, theCluster.ReplaceCRD(t.Context(), "v1beta1"))
	kubectlApply(t, namespace, fmt.Sprintf(manifest, "v1beta1", "web"))
	stored := func() string { return kubectl(t, "get", "crd", theCRD, "-o", "jsonpath={.status.storedVersions}") }
	if got := stored(); got != `["v1alpha1","v1beta1"]` {
		t.Fatalf("the stored versions are %s", got)
	}
	before := crdUID(t)

	helmInstall(t, theChart(t), "", takeOwnership, func(install *action.Install) { install.ForceConflicts = true })
	startOperator(t, "1.0.0")

	if now := crdUID(t); now != before {
		t.Errorf("the CRD was recreated")
	}
	if schema := kubectl(t, "get", "crd", theCRD, "-o", "jsonpath={.spec.versions[*].schema.openAPIV3Schema.properties.spec.required}"); schema != `["image"] ["image"]` {
		t.Errorf("the CRD was not replaced: the required fields are %s", schema)
	}
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		names := kubectl(t, "get", "mcpservers."+version+".toolhive.stacklok.dev", "--namespace", namespace, "-o", "jsonpath={.items[*].metadata.name}")
		if names != "older web" {
			t.Errorf("in version %s, there are the MCPServers %q", version, names)
		}
	}
	isReady(t, namespace)
	helmUpgrade(t, nextVersion(t), "")
	crdIsOfTheNextVersion(t, true)
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
