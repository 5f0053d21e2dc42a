package chart

import (
	"fmt"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"

	"mcpserver-operator/tests/cluster"
)

// TestAFurtherRelease verifies that a second release, with shared.enabled off, is installed beside the first and gets permissions in its namespaces
// only. Helm refuses a namespace that the other release has, and accepts it once that one has given it up. The permissions follow. TestNamespaces
// verifies that these permissions suffice for an operator.
func TestAFurtherRelease(t *testing.T) {
	ofFirst, ofFurther, moving := newNamespace(t), newNamespace(t), newNamespace(t)
	helmInstall(t, theChart(t), fmt.Sprintf(`{namespaces: [%s, %s]}`, ofFirst, moving))
	further := newFurther(t)
	must(t, further.install(t, fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s]}`, ofFurther)))
	mayPatch(t, cluster.OperatorNamespace, map[string]bool{ofFirst: true, moving: true, ofFurther: false})
	mayPatch(t, string(further), map[string]bool{ofFirst: false, moving: false, ofFurther: true})

	withMoving := fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s, %s]}`, ofFurther, moving)
	isRefused(t, further.upgrade(t, withMoving), "cannot be imported into the current release")
	helmUpgrade(t, theChart(t), fmt.Sprintf(`{namespaces: [%s]}`, ofFirst))
	must(t, further.upgrade(t, withMoving))
	mayPatch(t, cluster.OperatorNamespace, map[string]bool{ofFirst: true, moving: false, ofFurther: false})
	mayPatch(t, string(further), map[string]bool{ofFirst: false, moving: true, ofFurther: true})
}

// TestNamespacesBesideAllNamespaces verifies that a release for some namespaces is refused beside a release for all, in both orders. Helm itself does
// not notice: a RoleBinding and a ClusterRoleBinding are different objects.
func TestNamespacesBesideAllNamespaces(t *testing.T) {
	ofFirst, ofFurther := newNamespace(t), newNamespace(t)
	someOfFurther, someOfFirst := fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s]}`, ofFurther), fmt.Sprintf(`{namespaces: [%s]}`, ofFirst)
	helmInstall(t, theChart(t), "")
	further := newFurther(t)
	isRefused(t, further.install(t, someOfFurther), "another operator manages all namespaces")

	helmUpgrade(t, theChart(t), someOfFirst)
	must(t, further.install(t, someOfFurther))
	const all = `{namespaces: []}` // without any value, Helm would use those of the revision before
	isRefused(t, tryUpgrade(t, cluster.OperatorNamespace, release, all), fmt.Sprintf("the operator in namespace %q manages namespace %q", further, ofFurther))

	further.uninstall(t)
	helmUpgrade(t, theChart(t), all) // its own RoleBindings are no obstacle
}

// TestTheSharedObjectsStay verifies that the release that has the objects of all releases cannot give them up in an upgrade, which would delete them.
func TestTheSharedObjectsStay(t *testing.T) {
	namespace := newNamespace(t)
	helmInstall(t, theChart(t), fmt.Sprintf(`{namespaces: [%s]}`, namespace))
	err := tryUpgrade(t, cluster.OperatorNamespace, release, fmt.Sprintf(`{shared: {enabled: false}, namespaces: [%s]}`, namespace))
	isRefused(t, err, "leave shared.enabled on")
	kubectl(t, "get", "clusterrole", "mcpserver-operator")
}

// furtherRelease is a second release. Its name is also that of its namespace.
type furtherRelease string

// newFurther creates the namespace of a second release. The release is uninstalled when the test ends.
func newFurther(t *testing.T) furtherRelease {
	t.Helper()
	f := furtherRelease(newNamespace(t))
	t.Cleanup(func() { f.uninstall(t) })
	return f
}

func (f furtherRelease) install(t *testing.T, yamlValues string) error {
	t.Helper()
	install := action.NewInstall(helmIn(t, string(f)))
	install.ReleaseName, install.Namespace, install.WaitStrategy, install.Timeout = string(f), string(f), kube.StatusWatcherStrategy, helmTimeout
	_, err := install.RunWithContext(t.Context(), theChart(t), values(t, yamlValues))
	return err
}

func (f furtherRelease) upgrade(t *testing.T, yamlValues string) error {
	t.Helper()
	return tryUpgrade(t, string(f), string(f), yamlValues)
}

func (f furtherRelease) uninstall(t *testing.T) {
	t.Helper()
	uninstall := action.NewUninstall(helmIn(t, string(f)))
	uninstall.IgnoreNotFound, uninstall.WaitStrategy, uninstall.Timeout = true, kube.StatusWatcherStrategy, helmTimeout
	_, err := uninstall.Run(string(f))
	must(t, err)
}

// tryUpgrade upgrades a release that may be refused.
func tryUpgrade(t *testing.T, namespace, name, yamlValues string) error {
	t.Helper()
	upgrade := action.NewUpgrade(helmIn(t, namespace))
	upgrade.Namespace, upgrade.WaitStrategy, upgrade.Timeout = namespace, kube.StatusWatcherStrategy, helmTimeout
	_, err := upgrade.RunWithContext(t.Context(), name, theChart(t), values(t, yamlValues))
	return err
}

func isRefused(t *testing.T, err error, message string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), message) {
		t.Errorf("the result is not %q: %v", message, err)
	}
}

// mayPatch waits until the operator of the release in the given namespace may patch StatefulSets in the namespaces with true, and in no others.
func mayPatch(t *testing.T, release string, namespaces map[string]bool) {
	t.Helper()
	for namespace, may := range namespaces {
		eventually(t, fmt.Sprintf("the permissions of the operator in %s on %s to be %t", release, namespace, may), func() (string, bool) {
			allowed, err := theCluster.MayPatchStatefulSets(t.Context(), fmt.Sprintf("system:serviceaccount:%s:mcpserver-operator", release), namespace)
			must(t, err)
			return fmt.Sprint(allowed), allowed == may
		})
	}
}
