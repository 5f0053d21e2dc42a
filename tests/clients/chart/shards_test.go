package chart

import (
	"fmt"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"

	"mcpserver-operator/tests/cluster"
)

// TestAFurtherRelease verifies that a second release, with shared.enabled off, runs the MCPServers of its namespaces beside the first. Helm refuses
// a namespace that the other release has, and accepts it once that one has given it up. The permissions follow.
func TestAFurtherRelease(t *testing.T) {
	ofFirst, ofFurther, moving, further := newNamespace(t), newNamespace(t), newNamespace(t), newNamespace(t)
	helmInstall(t, theChart(t), fmt.Sprintf(`{namespaces: [%s, %s]}`, ofFirst, moving))
	t.Cleanup(func() {
		uninstall := action.NewUninstall(helmIn(t, further))
		uninstall.IgnoreNotFound, uninstall.WaitStrategy, uninstall.Timeout = true, kube.StatusWatcherStrategy, helmTimeout
		_, err := uninstall.Run("further")
		must(t, err)
	})
	install := action.NewInstall(helmIn(t, further))
	install.ReleaseName, install.Namespace, install.WaitStrategy, install.Timeout = "further", further, kube.StatusWatcherStrategy, helmTimeout
	_, err := install.RunWithContext(t.Context(), theChart(t), values(t, fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s]}`, ofFurther)))
	must(t, err)
	mayPatch(t, cluster.OperatorNamespace, map[string]bool{ofFirst: true, moving: true, ofFurther: false})
	mayPatch(t, further, map[string]bool{ofFirst: false, moving: false, ofFurther: true})

	takeMoving := func() error {
		upgrade := action.NewUpgrade(helmIn(t, further))
		upgrade.Namespace, upgrade.WaitStrategy, upgrade.Timeout = further, kube.StatusWatcherStrategy, helmTimeout
		_, err := upgrade.RunWithContext(t.Context(), "further", theChart(t),
			values(t, fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s, %s]}`, ofFurther, moving)))
		return err
	}
	if err := takeMoving(); err == nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Errorf("unexpected result of a release with a namespace of another: %v", err)
	}
	helmUpgrade(t, theChart(t), fmt.Sprintf(`{namespaces: [%s]}`, ofFirst))
	must(t, takeMoving())
	mayPatch(t, cluster.OperatorNamespace, map[string]bool{ofFirst: true, moving: false, ofFurther: false})
	mayPatch(t, further, map[string]bool{ofFirst: false, moving: true, ofFurther: true})
}

// mayPatch verifies in which namespaces the operator of the release in the given namespace may patch StatefulSets.
func mayPatch(t *testing.T, release string, namespaces map[string]bool) {
	t.Helper()
	for namespace, may := range namespaces {
		user := fmt.Sprintf("system:serviceaccount:%s:mcpserver-operator", release)
		_, err := theCluster.Kubectl(t.Context(), "auth", "can-i", "patch", "statefulsets", "-n", namespace, "--as", user)
		if (err == nil) != may {
			t.Errorf("the operator in %s has permissions in %s: %t", release, namespace, !may)
		}
	}
}
