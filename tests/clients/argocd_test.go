package clients

import (
	"fmt"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/engine"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	syncs      int
}

func newApplication(t *testing.T, namespace string, serverSide bool) *application {
	t.Helper()
	clusterCache := cache.NewClusterCache(theCluster.Config,
		cache.SetNamespaces([]string{namespace}), cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(func(object *unstructured.Unstructured, _ bool) (any, bool) {
			id := object.GetAnnotations()[trackingAnnotation]
			return id, id != ""
		}))
	a := &application{
		namespace: namespace, serverSide: serverSide, cache: clusterCache,
		engine: engine.NewEngine(theCluster.Config, clusterCache, engine.WithLogr(logr.Discard())),
	}
	stop, err := a.engine.Run()
	must(t, err)
	t.Cleanup(stop)
	return a
}

// cycle compares Git with the cluster, and syncs if they differ: one round of auto-sync with self-heal. After a sync it
// waits until Argo CD, whose view of the cluster is a cache, sees that they are the same.
func (a *application) cycle(t *testing.T, git string) {
	t.Helper()
	targets := a.targets(t, git)
	if a.isSynced(t, targets) {
		return
	}
	a.syncs++
	results, err := a.engine.Sync(t.Context(), targets, isManaged, "revision", a.namespace,
		sync.WithPrune(true), sync.WithLogr(logr.Discard()),
		sync.WithServerSideApply(a.serverSide), sync.WithServerSideApplyManager(argoManager))
	must(t, err)
	for _, result := range results {
		if result.Status == common.ResultCodeSyncFailed {
			t.Fatalf("syncing %s: %s", result.ResourceKey, result.Message)
		}
	}
	eventually(t, "Argo CD to be Synced", func() (string, bool) { return "OutOfSync", a.isSynced(t, a.targets(t, git)) })
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

// cycles runs many rounds, of which none may find anything to sync.
func (a *application) cycles(t *testing.T, git string, number int) {
	t.Helper()
	before := a.syncs
	for range number {
		a.cycle(t, git)
		operatorPasses(t, a.namespace)
	}
	if a.syncs != before {
		t.Fatalf("%d of %d cycles found a difference to sync", a.syncs-before, number)
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
			holds(t, namespace, 3, func() { app.cycles(t, git, 20) })
			// A new version from Git.
			git = mcpServer("registry.example/server:2")
			holds(t, namespace, 3, func() {
				app.cycle(t, git)
				scaleIs(t, namespace, 3)
				app.cycles(t, git, 3)
			})
			neitherOwnsTheScale(t, namespace, argoManager)
		})
		t.Run(fmt.Sprintf("server-side apply %t, an autoscaler in Git beside it", serverSide), func(t *testing.T) {
			namespace := newNamespace(t)
			app := newApplication(t, namespace, serverSide)
			git := mcpServer("registry.example/server:1") + "---\n" + autoscaler(4)
			app.cycle(t, git)
			scaleIs(t, namespace, 4)
			holds(t, namespace, 4, func() { app.cycles(t, git, 20) })
			git = mcpServer("registry.example/server:1") + "---\n" + autoscaler(2)
			app.cycle(t, git)
			scaleIs(t, namespace, 2)
			holds(t, namespace, 2, func() { app.cycles(t, git, 5) })
			// Pruned from Git, the autoscaler goes and the scale stays.
			git = mcpServer("registry.example/server:1")
			holds(t, namespace, 2, func() { app.cycle(t, git); app.cycles(t, git, 3) })
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
			holds(t, namespace, 5, func() { app.cycles(t, git, 20) })
			// A new number in Git counts again.
			git = mcpServer("registry.example/server:1", "replicas: 3")
			app.cycle(t, git)
			scaleIs(t, namespace, 3)
			holds(t, namespace, 3, func() { app.cycles(t, git, 3) })
			// Taken out of Git, the pods stay.
			git = mcpServer("registry.example/server:1")
			holds(t, namespace, 3, func() { app.cycle(t, git); app.cycles(t, git, 3) })
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
