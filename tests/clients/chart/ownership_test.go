package chart

import (
	"context"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestASecondReleaseIsRefused: two operators would write the same StatefulSets with the same field manager.
func TestASecondReleaseIsRefused(t *testing.T) {
	helmInstall(t, theChart(t), "")
	second := action.NewInstall(helm(t))
	second.ReleaseName, second.Namespace, second.WaitStrategy = "second", newNamespace(t), kube.HookOnlyStrategy
	_, err := second.RunWithContext(t.Context(), theChart(t), nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Errorf("unexpected result of a second release: %v", err)
	}
}

// TestUnderAnotherName: a CRD that a removed release has kept still belongs to that release. A release with another name can take it over
// with --take-ownership, and the MCPServers do not change.
func TestUnderAnotherName(t *testing.T) {
	t.Cleanup(func() { deleteCRD(t) }) // otherwise it belongs to the other release
	helmInstall(t, theChart(t), "")
	namespace := newNamespace(t)
	kubectlApply(t, namespace, webManifest)
	before := mcpServer(t, namespace)
	helmUninstall(t, release)

	untold := action.NewInstall(helm(t))
	untold.ReleaseName, untold.Namespace, untold.WaitStrategy = "other", cluster.OperatorNamespace, kube.HookOnlyStrategy
	_, err := untold.RunWithContext(t.Context(), theChart(t), nil)
	if err == nil || !strings.Contains(err.Error(), `annotation validation error: key "meta.helm.sh/release-name" must equal "other"`) {
		t.Errorf("unexpected result without --take-ownership: %v", err)
	}
	helmInstall(t, nextVersion(t), "", underTheName("other"), takeOwnership)
	crdIsOfTheNextVersion(t, true)
	isAsBefore(t, namespace, before)
}

// TestFromKubectlToHelm verifies that Helm can take over and upgrade the objects of kubectl apply -k deploy, including the CRD.
func TestFromKubectlToHelm(t *testing.T) {
	kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", "deploy")
	must(t, theCluster.WaitForCRD(t.Context(), "mcpservers.toolhive.stacklok.dev"))
	namespace := newNamespace(t)
	kubectlApply(t, namespace, webManifest)
	before := mcpServer(t, namespace)

	helmInstall(t, theChart(t), "", takeOwnership, func(install *action.Install) { install.ForceConflicts = true })
	helmUpgrade(t, nextVersion(t), `{replicas: 1, concurrency: 8}`, func(upgrade *action.Upgrade) { upgrade.ForceConflicts = true })

	crdIsOfTheNextVersion(t, true)
	if args := strings.Join(operatorArgs(t), " "); !strings.Contains(args, "--concurrency=8") {
		t.Errorf("the upgrade did not change the arguments: %s", args)
	}
	helmUninstall(t, release)
	isAsBefore(t, namespace, before)
}

const webManifest = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: "registry.example/server:1", command: [server]}
`

// isAsBefore fails if the MCPServer was recreated or its spec has changed.
func isAsBefore(t *testing.T, namespace string, before *v1beta1.MCPServer) {
	t.Helper()
	if after := mcpServer(t, namespace); after.UID != before.UID || after.Generation != before.Generation {
		t.Errorf("the MCPServer was %+v and is %+v", before.ObjectMeta, after.ObjectMeta)
	}
}

// deleteCRD deletes the CRD and every MCPServer with it.
func deleteCRD(t *testing.T) {
	t.Helper()
	_, err := theCluster.Kubectl(context.Background(), "delete", "crd", theCRD, "--ignore-not-found", "--wait")
	must(t, err)
}

func mcpServer(t *testing.T, namespace string) *v1beta1.MCPServer {
	t.Helper()
	server := &v1beta1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"}, server))
	return server
}
