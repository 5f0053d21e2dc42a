package clients

import (
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// TestHelm: Helm 4 with its server-side apply installs, upgrades and rolls back an MCPServer, and the scale moves only
// where a declaration does.
func TestHelm(t *testing.T) {
	namespace := newNamespace(t)
	kube.ManagedFieldsManager = "helm"
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &theCluster.Kubeconfig, &namespace
	configuration := action.NewConfiguration()
	must(t, configuration.Init(flags, namespace, "configmap"))
	release := func(version, manifest string) *chart.Chart {
		return &chart.Chart{
			Metadata:  &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "web", Version: version},
			Templates: []*common.File{{Name: "templates/web.yaml", Data: []byte(manifest)}},
		}
	}

	install := action.NewInstall(configuration)
	install.ReleaseName, install.Namespace, install.WaitStrategy = "web", namespace, kube.HookOnlyStrategy
	_, err := install.RunWithContext(t.Context(), release("1.0.0", mcpServer("registry.example/server:1")), nil)
	must(t, err)
	scaleIs(t, namespace, 1)
	kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=3")
	scaleIs(t, namespace, 3)

	upgrade := func(version, manifest string) {
		t.Helper()
		upgrade := action.NewUpgrade(configuration)
		upgrade.Namespace, upgrade.WaitStrategy = namespace, kube.HookOnlyStrategy
		_, err := upgrade.RunWithContext(t.Context(), "web", release(version, manifest), nil)
		must(t, err)
	}
	holds(t, namespace, 3, func() {
		upgrade("1.1.0", mcpServer("registry.example/server:2"))
		scaleIs(t, namespace, 3)
	})
	neitherOwnsTheScale(t, namespace, "helm")

	upgrade("2.0.0", mcpServer("registry.example/server:2", "replicas: 2"))
	scaleIs(t, namespace, 2)
	holds(t, namespace, 2, func() {
		rollback := action.NewRollback(configuration)
		rollback.WaitStrategy, rollback.Version = kube.HookOnlyStrategy, 2
		must(t, rollback.Run("web"))
		operatorPasses(t, namespace)
		scaleIs(t, namespace, 2)
	})
	neitherOwnsTheScale(t, namespace, "helm")
	isManagedBy(t, namespace, "helm", true)
}
