package chart

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/tests/cluster"
)

// TestASecondReleaseIsRefused: two operators would write the same StatefulSets under the same field manager.
func TestASecondReleaseIsRefused(t *testing.T) {
	helmInstall(t, theChart(t), "")
	second := action.NewInstall(helm(t))
	second.ReleaseName, second.Namespace, second.WaitStrategy = "second", newNamespace(t), kube.HookOnlyStrategy
	_, err := second.RunWithContext(t.Context(), theChart(t), nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Errorf("a second release: %v", err)
	}
	helmUninstall(t)
}

// TestFromKubectlToHelm: Helm takes over what kubectl apply -k deploy installed, and upgrades it from then on, CRD and all.
func TestFromKubectlToHelm(t *testing.T) {
	kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", "deploy")
	kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "crd/mcpservers.toolhive.stacklok.dev")
	namespace := newNamespace(t)
	kubectlApply(t, namespace, "apiVersion: toolhive.stacklok.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: web}\nspec: {image: \"registry.example/server:1\"}")
	before := mcpServer(t, namespace)

	install := action.NewInstall(helm(t))
	install.ReleaseName, install.Namespace = release, cluster.OperatorNamespace
	install.TakeOwnership, install.ForceConflicts, install.WaitStrategy = true, true, kube.HookOnlyStrategy
	_, err := install.RunWithContext(t.Context(), theChart(t), nil)
	must(t, err)
	upgrade := action.NewUpgrade(helm(t))
	upgrade.Namespace, upgrade.ForceConflicts, upgrade.WaitStrategy = cluster.OperatorNamespace, true, kube.HookOnlyStrategy
	_, err = upgrade.RunWithContext(t.Context(), release, nextVersion(t), values(t, `{replicas: 1, concurrency: 8}`))
	must(t, err)

	crdSays(t, addedDescription, true)
	if args := strings.Join(operatorArgs(t), " "); !strings.Contains(args, "--concurrency=8") {
		t.Errorf("the upgrade did not change the arguments: %s", args)
	}
	helmUninstall(t)
	if after := mcpServer(t, namespace); after.UID != before.UID || after.Generation != before.Generation {
		t.Errorf("the MCPServer was %+v and is %+v", before.ObjectMeta, after.ObjectMeta)
	}
}

func mcpServer(t *testing.T, namespace string) *v1alpha1.MCPServer {
	t.Helper()
	server := &v1alpha1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "web"}, server))
	return server
}
