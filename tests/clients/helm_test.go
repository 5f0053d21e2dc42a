package clients

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// helmManager is the field manager of Helm.
const helmManager = "helm"

// helmTimeout limits how long Helm waits for the objects of a release.
const helmTimeout = time.Minute

// helmRelease is a release of a user's chart. It behaves like the command line of Helm 4 with --wait: it uses server-side apply, and
// waits until kstatus reports every object as ready.
type helmRelease struct {
	namespace     string
	configuration *action.Configuration
	revisions     int
}

func newHelmRelease(t *testing.T) (r *helmRelease, web, api client.ObjectKey) {
	t.Helper()
	kube.ManagedFieldsManager = helmManager
	namespace := newNamespace(t)
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &theCluster.Kubeconfig, &namespace
	configuration := action.NewConfiguration()
	must(t, configuration.Init(flags, namespace, "configmap"))
	return &helmRelease{namespace: namespace, configuration: configuration}, named(namespace, "web"), named(namespace, "api")
}

// next returns the next version of the chart.
func (r *helmRelease) next(manifest string) *chart.Chart {
	r.revisions++
	return &chart.Chart{
		Metadata:  &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "servers", Version: fmt.Sprintf("%d.0.0", r.revisions)},
		Templates: []*common.File{{Name: "templates/servers.yaml", Data: []byte(manifest)}},
	}
}

// install does what helm install --wait does.
func (r *helmRelease) install(t *testing.T, manifest string) {
	t.Helper()
	install := action.NewInstall(r.configuration)
	install.ReleaseName, install.Namespace = "servers", r.namespace
	install.WaitStrategy, install.Timeout = kube.StatusWatcherStrategy, helmTimeout
	_, err := install.RunWithContext(t.Context(), r.next(manifest), nil)
	must(t, err)
}

// upgrade does what helm upgrade --wait does.
func (r *helmRelease) upgrade(t *testing.T, manifest string) error {
	t.Helper()
	upgrade := action.NewUpgrade(r.configuration)
	upgrade.Namespace, upgrade.WaitStrategy, upgrade.Timeout = r.namespace, kube.StatusWatcherStrategy, helmTimeout
	_, err := upgrade.RunWithContext(t.Context(), "servers", r.next(manifest), nil)
	return err
}

// rollback does what helm rollback --wait does.
func (r *helmRelease) rollback(t *testing.T, revision int) {
	t.Helper()
	r.revisions++
	rollback := action.NewRollback(r.configuration)
	rollback.Version, rollback.WaitStrategy, rollback.Timeout = revision, kube.StatusWatcherStrategy, helmTimeout
	must(t, rollback.Run("servers"))
}

// isNow fails unless the StatefulSet has n replicas and all pods are ready. It does not wait, because Helm must have waited.
func isNow(t *testing.T, server client.ObjectKey, n int32) {
	t.Helper()
	if state, is := isAt(t, server, n); !is {
		t.Errorf("Helm did not wait until %s had %d pods: %s", server.Name, n, state)
	}
}

// TestHelm verifies that Helm 4 with server-side apply can install, upgrade and roll back MCPServers and waits until they are Ready. The
// scale only changes with a declaration.
func TestHelm(t *testing.T) {
	helm, web, api := newHelmRelease(t)
	helm.install(t, together(mcpServer("web", version1), mcpServer("api", version1, "replicas: 2")))
	isNow(t, web, 1)
	isNow(t, api, 2)
	kubectlScale(t, web, 3)
	scaleIs(t, web, 3)

	leftToOthers(t, holds(t, web, 3, func() {
		must(t, helm.upgrade(t, together(mcpServer("web", version2), mcpServer("api", version2, "replicas: 2"))))
		isNow(t, web, 3)
		isNow(t, api, 2)
	}))
	neitherOwnsTheScale(t, web, helmManager)

	must(t, helm.upgrade(t, together(mcpServer("web", version2, "replicas: 2"), mcpServer("api", version2, "replicas: 2"))))
	isNow(t, web, 2)
	holds(t, web, 2, func() {
		helm.rollback(t, 2) // to the revision in which web declares nothing
		operatorPasses(t, web)
		isNow(t, web, 2)
	})
	neitherOwnsTheScale(t, web, helmManager)
	isManagedBy(t, web, helmManager, true)
	isNow(t, api, 2)
}

// TestHelmRollbackDeclaresAgain: a rollback to a different number is a changed declaration. The operator carries it out once, even if
// others have scaled since. A rollback to the same number is not a change.
func TestHelmRollbackDeclaresAgain(t *testing.T) {
	helm, web, api := newHelmRelease(t)
	servers := func(image string, web ...string) string {
		return together(mcpServer("web", image, web...), mcpServer("api", image, "replicas: 2"))
	}
	helm.install(t, servers(version1, "replicas: 2"))          // revision 1
	must(t, helm.upgrade(t, servers(version1, "replicas: 4"))) // revision 2
	kubectlScale(t, web, 5)
	scaleIs(t, web, 5)
	kubectlScale(t, api, 3)
	scaleIs(t, api, 3)
	leftToOthers(t, holds(t, api, 3, func() {
		moves(t, web, []int32{5, 2}, func() {
			helm.rollback(t, 1) // revision 3
			isNow(t, web, 2)
		})
		// The declaration counts once: the operator yields to later scaling, even after a rollback to the same number.
		kubectlScale(t, web, 3)
		scaleIs(t, web, 3)
		leftToOthers(t, holds(t, web, 3, func() {
			must(t, helm.upgrade(t, servers(version2, "replicas: 2"))) // revision 4
			helm.rollback(t, 3)
			operatorPasses(t, web)
			isNow(t, web, 3)
		}))
		// From no declaration back to the old number.
		must(t, helm.upgrade(t, servers(version1)))
		isNow(t, web, 3)
		moves(t, web, []int32{3, 2}, func() {
			helm.rollback(t, 1)
			isNow(t, web, 2)
		})
	}))
}

// TestHelmSaysWhatIsRefused verifies that Helm does not wait for its timeout if an MCPServer cannot become Ready.
func TestHelmSaysWhatIsRefused(t *testing.T) {
	helm, web, _ := newHelmRelease(t)
	helm.install(t, mcpServer("web", version1))
	err := helm.upgrade(t, mcpServer("web", version1,
		"podTemplateSpec: {spec: {containers: [{name: mcp, volumeMounts: [{name: missing, mountPath: /data}]}]}}"))
	if err == nil || !strings.Contains(err.Error(), "MCPServer") || !strings.Contains(err.Error(), "missing") {
		t.Errorf("unexpected result of the upgrade: %v", err)
	}
	holds(t, web, 1, func() { helm.rollback(t, 1); isNow(t, web, 1) })
}
