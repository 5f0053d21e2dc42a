// Package chart tests the Helm chart in deploy/chart with Helm 4 as a library. The chart installs the same objects as kubectl apply -k
// deploy and rejects invalid values with a message that names them. Neither an upgrade nor a removal changes a pod of an MCPServer.
package chart

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	ssautils "github.com/fluxcd/pkg/ssa/utils"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// theCluster is the cluster of the suite. The tests install the operator with Helm.
var theCluster *cluster.Cluster

func TestMain(m *testing.M) {
	options := controlplane.Options{Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}}
	os.Exit(cluster.RunSuiteBare("chart", options, func(_ context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return m.Run(), nil
	}))
}

// release is the name of the Helm release.
const release = "mcpserver-operator"

// helmTimeout limits how long Helm waits for the objects of a release.
const helmTimeout = 3 * time.Minute

// theChart returns the chart in deploy/chart.
func theChart(t *testing.T) *chart.Chart {
	t.Helper()
	loaded, err := loader.Load("../../../deploy/chart")
	must(t, err)
	return loaded
}

// render does what helm template does. The values are YAML.
func render(t *testing.T, from *chart.Chart, yamlValues string, options ...func(*action.Install)) (string, error) {
	t.Helper()
	install := action.NewInstall(action.NewConfiguration())
	install.ReleaseName, install.Namespace, install.Replace = release, cluster.OperatorNamespace, true
	install.DryRunStrategy = action.DryRunClient
	on(t, "v1.35.0")(install)
	for _, option := range options {
		option(install)
	}
	rendered, err := install.RunWithContext(t.Context(), from, values(t, yamlValues))
	if err != nil {
		return "", err
	}
	return rendered.(*releasev1.Release).Manifest, nil
}

// on renders for the given version of Kubernetes.
func on(t *testing.T, version string) func(*action.Install) {
	t.Helper()
	parsed, err := common.ParseKubeVersion(version)
	must(t, err)
	return func(install *action.Install) { install.KubeVersion = parsed }
}

func values(t *testing.T, yamlValues string) map[string]any {
	t.Helper()
	parsed := map[string]any{}
	must(t, yaml.Unmarshal([]byte(yamlValues), &parsed))
	return parsed
}

// byName parses manifests and returns the objects by name.
func byName(t *testing.T, manifests string) map[string]*unstructured.Unstructured {
	t.Helper()
	objects, err := ssautils.ReadObjects(strings.NewReader(manifests))
	must(t, err)
	named := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if named[name] != nil {
			t.Fatalf("%s exists twice", name)
		}
		named[name] = object
	}
	return named
}

// helm returns a configuration like that of Helm's command line, for releases in the namespace of the operator.
func helm(t *testing.T) *action.Configuration {
	t.Helper()
	return helmIn(t, cluster.OperatorNamespace)
}

// helmIn is helm for releases in another namespace.
func helmIn(t *testing.T, namespace string) *action.Configuration {
	t.Helper()
	kube.ManagedFieldsManager = "helm"
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &theCluster.Kubeconfig, &namespace
	configuration := action.NewConfiguration()
	must(t, configuration.Init(flags, namespace, "secret"))
	return configuration
}

// helmInstall does what helm install --create-namespace --wait does. The release is uninstalled when the test ends.
func helmInstall(t *testing.T, of *chart.Chart, yamlValues string, options ...func(*action.Install)) {
	t.Helper()
	install := action.NewInstall(helm(t))
	install.ReleaseName, install.Namespace, install.CreateNamespace = release, cluster.OperatorNamespace, true
	install.WaitStrategy, install.Timeout = kube.StatusWatcherStrategy, helmTimeout
	for _, option := range options {
		option(install)
	}
	t.Cleanup(func() { helmUninstall(t, install.ReleaseName) })
	_, err := install.RunWithContext(t.Context(), of, values(t, yamlValues))
	must(t, err)
}

// takeOwnership sets --take-ownership.
func takeOwnership(install *action.Install) { install.TakeOwnership = true }

// underTheName installs a release with a different name.
func underTheName(name string) func(*action.Install) {
	return func(install *action.Install) { install.ReleaseName = name }
}

// helmUpgrade does what helm upgrade --wait does.
func helmUpgrade(t *testing.T, to *chart.Chart, yamlValues string, options ...func(*action.Upgrade)) {
	t.Helper()
	upgrade := action.NewUpgrade(helm(t))
	upgrade.Namespace, upgrade.WaitStrategy, upgrade.Timeout = cluster.OperatorNamespace, kube.StatusWatcherStrategy, helmTimeout
	for _, option := range options {
		option(upgrade)
	}
	_, err := upgrade.RunWithContext(t.Context(), release, to, values(t, yamlValues))
	must(t, err)
}

// helmRollback does what helm rollback --wait does.
func helmRollback(t *testing.T, revision int) {
	t.Helper()
	rollback := action.NewRollback(helm(t))
	rollback.Version, rollback.WaitStrategy, rollback.Timeout = revision, kube.StatusWatcherStrategy, helmTimeout
	must(t, rollback.Run(release))
}

// helmUninstall does what helm uninstall --ignore-not-found --wait does.
func helmUninstall(t *testing.T, name string) {
	t.Helper()
	uninstall := action.NewUninstall(helm(t))
	uninstall.IgnoreNotFound, uninstall.WaitStrategy, uninstall.Timeout = true, kube.StatusWatcherStrategy, helmTimeout
	_, err := uninstall.Run(name)
	must(t, err)
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := theCluster.Kubectl(t.Context(), args...)
	must(t, err)
	return out
}

func kubectlApply(t *testing.T, namespace, manifests string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifests, "apply", "--server-side", "--namespace", namespace, "-f", "-")
	must(t, err)
}

var (
	must       = cluster.Must
	eventually = cluster.MustEventually
)
