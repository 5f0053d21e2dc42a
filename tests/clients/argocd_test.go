package clients

import (
	"fmt"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/engine"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"mcpserver-operator/tests/cluster"
)

// argoManager is the field manager of Argo CD.
const argoManager = "argocd-controller"

// trackingAnnotation is how Argo CD knows what belongs to an application.
const trackingAnnotation = "argocd.argoproj.io/tracking-id"

// application is an Argo CD application with auto-sync, self-heal and prune, on Argo CD's own cache, diff and sync.
type application struct {
	namespace  string
	serverSide bool
	cache      cache.ClusterCache
	engine     engine.GitOpsEngine
	healths    health.HealthOverride
	syncs      int
	// begun is where the audit log was when the application was made.
	begun int64
}

func newApplication(t *testing.T, namespace string, serverSide bool) *application {
	t.Helper()
	config := rest.CopyConfig(theCluster.Config)
	config.UserAgent = argoManager
	clusterCache := cache.NewClusterCache(config,
		cache.SetNamespaces([]string{namespace}), cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(func(object *unstructured.Unstructured, _ bool) (any, bool) {
			id := object.GetAnnotations()[trackingAnnotation]
			return id, id != ""
		}))
	a := &application{
		namespace: namespace, serverSide: serverSide, cache: clusterCache,
		engine:  engine.NewEngine(config, clusterCache, engine.WithLogr(logr.Discard())),
		healths: argoHealths(t),
	}
	var err error
	a.begun, err = theCluster.AuditMark()
	must(t, err)
	stop, err := a.engine.Run()
	must(t, err)
	t.Cleanup(stop)
	return a
}

// cycle compares Git with the cluster, and syncs if they differ: one round of auto-sync with self-heal. It waits until
// Argo CD, whose view of the cluster is a cache, sees that they are the same and that the MCPServer is Healthy.
func (a *application) cycle(t *testing.T, git string) {
	t.Helper()
	targets := a.targets(t, git)
	if !a.isSynced(t, targets) {
		a.sync(t, targets)
	}
	eventually(t, "Argo CD to be Synced and Healthy", func() (string, bool) {
		targets := a.targets(t, git)
		synced, healthy := a.isSynced(t, targets), a.health(t, targets)
		return fmt.Sprintf("Synced: %t, %s: %s", synced, healthy.Status, healthy.Message), synced && healthy.Status == health.HealthStatusHealthy
	})
}

func (a *application) sync(t *testing.T, targets []*unstructured.Unstructured) {
	t.Helper()
	a.syncs++
	results, err := a.engine.Sync(t.Context(), targets, isManaged, "revision", a.namespace,
		sync.WithPrune(true), sync.WithHealthOverride(a.healths), sync.WithLogr(logr.Discard()),
		sync.WithServerSideApply(a.serverSide), sync.WithServerSideApplyManager(argoManager))
	must(t, err)
	for _, result := range results {
		if result.Status == common.ResultCodeSyncFailed {
			t.Fatalf("syncing %s: %s", result.ResourceKey, result.Message)
		}
	}
}

// health is what Argo CD says of the MCPServer, from its cache.
func (a *application) health(t *testing.T, targets []*unstructured.Unstructured) *health.HealthStatus {
	t.Helper()
	live, err := a.cache.GetManagedLiveObjs(targets, isManaged)
	must(t, err)
	for _, object := range live {
		if object != nil && object.GetKind() == "MCPServer" {
			return healthOf(t, object, a.healths)
		}
	}
	return &health.HealthStatus{Status: health.HealthStatusMissing}
}

// targets are the objects in Git, with how Argo CD tracks them.
func (a *application) targets(t *testing.T, git string) []*unstructured.Unstructured {
	t.Helper()
	targets, err := kube.SplitYAML([]byte(git))
	must(t, err)
	for _, target := range targets {
		target.SetNamespace(a.namespace)
		target.SetAnnotations(map[string]string{trackingAnnotation: fmt.Sprintf("app:%s:%s/%s", target.GetKind(), a.namespace, target.GetName())})
	}
	return targets
}

// isSynced compares as Argo CD does: with server-side apply by the fields that it owns. No ignoreDifferences.
func (a *application) isSynced(t *testing.T, targets []*unstructured.Unstructured) bool {
	t.Helper()
	live, err := a.cache.GetManagedLiveObjs(targets, isManaged)
	must(t, err)
	pairs := sync.Reconcile(targets, live, a.namespace, a.cache)
	differences, err := diff.DiffArray(pairs.Target, pairs.Live, diff.WithLogr(logr.Discard()),
		diff.WithStructuredMergeDiff(a.serverSide), diff.WithGVKParser(a.cache.GetGVKParser()), diff.WithManager(argoManager))
	must(t, err)
	return !differences.Modified
}

func isManaged(r *cache.Resource) bool {
	id, _ := r.Info.(string)
	return strings.HasPrefix(id, "app:")
}

// cycles runs many rounds, of which none may find anything to sync, while somebody acts in each.
func (a *application) cycles(t *testing.T, git string, number int, act func(i int)) {
	t.Helper()
	before := a.syncs
	for i := range number {
		act(i)
		a.cycle(t, git)
		operatorPasses(t, a.namespace)
	}
	if a.syncs != before {
		t.Fatalf("%d of %d cycles found a difference to sync", a.syncs-before, number)
	}
	a.wroteNoScale(t)
}

// nobody acts.
func nobody(int) {}

// wroteNoScale fails if Argo CD has ever written to a StatefulSet, or the operator through its subresource scale. What else
// the operator writes shows in who owns the scale.
func (a *application) wroteNoScale(t *testing.T) {
	t.Helper()
	all, err := theCluster.RequestsSince(a.begun, "")
	must(t, err)
	argo := 0
	for _, request := range all {
		if request.UserAgent != argoManager || request.Namespace != a.namespace {
			continue
		}
		argo++
		if request.Resource == "statefulsets" && request.IsWrite() {
			t.Errorf("Argo CD has written to a StatefulSet: %s", request)
		}
	}
	ours, err := theCluster.RequestsSince(a.begun, cluster.OperatorUser)
	must(t, err)
	for _, request := range ours {
		if request.Namespace == a.namespace && request.Subresource == "scale" {
			t.Errorf("the operator has written a scale: %s", request)
		}
	}
	if argo == 0 {
		t.Error("no request of Argo CD is in the audit log")
	}
}

// operatorPasses makes the operator look at the MCPServer once more.
func operatorPasses(t *testing.T, namespace string) {
	t.Helper()
	mark, err := operator.LogMark()
	must(t, err)
	kubectl(t, namespace, "label", "statefulset", "web", "--overwrite", fmt.Sprintf("touched=%d", mark))
	must(t, operator.WaitForPassOver(t.Context(), mark, namespace))
}

// TestArgoCD: an application is always Synced, and neither it nor the operator ever writes the scale that somebody else
// owns.
func TestArgoCD(t *testing.T) {
	for _, serverSide := range []bool{false, true} {
		t.Run(fmt.Sprintf("server-side apply %t, replicas left to kubectl scale", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1")
			app.cycle(t, git)
			scaleIs(t, namespace, 1)
			kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=3")
			scaleIs(t, namespace, 3)
			// It is scaled in each cycle, and ends at 3.
			moves(t, namespace, repeated([]int32{3, 1, 2}, 20, 3), func() {
				app.cycles(t, git, 20, func(i int) {
					kubectl(t, namespace, "scale", "statefulset", "web", fmt.Sprintf("--replicas=%d", []int{1, 2, 3}[i%3]))
				})
				kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=3")
				scaleIs(t, namespace, 3)
			})
			// A new version from Git.
			git = mcpServer("registry.example/server:2")
			holds(t, namespace, 3, func() {
				app.cycle(t, git)
				scaleIs(t, namespace, 3)
				app.cycles(t, git, 3, nobody)
			})
			neitherOwnsTheScale(t, namespace, argoManager)
			isManagedBy(t, namespace, argoManager, serverSide)
		})
		t.Run(fmt.Sprintf("server-side apply %t, an autoscaler in Git beside it", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1") + "---\n" + autoscaler(4)
			app.cycle(t, git)
			scaleIs(t, namespace, 4)
			holds(t, namespace, 4, func() { app.cycles(t, git, 5, nobody) })
			git = mcpServer("registry.example/server:1") + "---\n" + autoscaler(2)
			app.cycle(t, git)
			scaleIs(t, namespace, 2)
			holds(t, namespace, 2, func() { app.cycles(t, git, 5, nobody) })
			// Pruned from Git, the autoscaler goes and the scale stays.
			git = mcpServer("registry.example/server:1")
			holds(t, namespace, 2, func() { app.cycle(t, git); app.cycles(t, git, 3, nobody) })
			neitherOwnsTheScale(t, namespace, argoManager)
		})
		t.Run(fmt.Sprintf("server-side apply %t, an autoscaler that acts beside it", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1")
			app.cycle(t, git)
			_, err := theCluster.KubectlWithInput(t.Context(), autoscaler(3), "-n", namespace, "apply", "--server-side", "-f", "-")
			must(t, err)
			scaleIs(t, namespace, 3)
			moves(t, namespace, repeated([]int32{3, 1, 2}, 20, 3), func() {
				app.cycles(t, git, 20, func(i int) {
					n := []int32{1, 2, 3}[i%3]
					kubectl(t, namespace, "patch", "hpa", "web", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"minReplicas":%[1]d,"maxReplicas":%[1]d}}`, n))
					scaleIs(t, namespace, n)
				})
				kubectl(t, namespace, "patch", "hpa", "web", "--type=merge", "-p", `{"spec":{"minReplicas":3,"maxReplicas":3}}`)
				scaleIs(t, namespace, 3)
			})
			neitherOwnsTheScale(t, namespace, argoManager)
		})
		t.Run(fmt.Sprintf("server-side apply %t, replicas declared in Git", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1", "replicas: 2")
			app.cycle(t, git)
			scaleIs(t, namespace, 2)
			// An incident: kubectl scale holds, and Argo CD, whose MCPServer is as in Git, sees no drift.
			kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=5")
			scaleIs(t, namespace, 5)
			moves(t, namespace, repeated([]int32{5, 1, 4}, 20, 5), func() {
				app.cycles(t, git, 20, func(i int) {
					kubectl(t, namespace, "scale", "statefulset", "web", fmt.Sprintf("--replicas=%d", []int{1, 4, 5}[i%3]))
				})
				kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=5")
				scaleIs(t, namespace, 5)
			})
			// A new number in Git counts again.
			git = mcpServer("registry.example/server:1", "replicas: 3")
			app.cycle(t, git)
			scaleIs(t, namespace, 3)
			holds(t, namespace, 3, func() { app.cycles(t, git, 3, nobody) })
			// Taken out of Git, the pods stay.
			git = mcpServer("registry.example/server:1")
			holds(t, namespace, 3, func() { app.cycle(t, git); app.cycles(t, git, 3, nobody) })
			neitherOwnsTheScale(t, namespace, argoManager)
		})
		t.Run(fmt.Sprintf("server-side apply %t, a change of the MCPServer by hand is healed", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1", "replicas: 2")
			app.cycle(t, git)
			scaleIs(t, namespace, 2)
			kubectl(t, namespace, "scale", "mcpserver", "web", "--replicas=4")
			eventually(t, "Argo CD to see the drift and heal it", func() (string, bool) {
				before := app.syncs
				app.cycle(t, git)
				return "no difference", app.syncs > before
			})
			scaleIs(t, namespace, 2)
		})
	}
}
