package clients

import (
	"context"
	"fmt"
	"slices"
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
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// argoManager is the field manager of Argo CD.
const argoManager = "argocd-controller"

// trackingAnnotation is the annotation with which Argo CD tracks the objects of an application.
const trackingAnnotation = "argocd.argoproj.io/tracking-id"

// application is an Argo CD application with auto-sync, self-heal and prune. It uses Argo CD's own cache, diff and sync code.
type application struct {
	namespace  string
	serverSide bool
	// config is Argo CD's client configuration. The user is unique to the application.
	config  *rest.Config
	user    string
	cache   cache.ClusterCache
	engine  engine.GitOpsEngine
	healths health.HealthOverride
	// drifts is the number of differences that Argo CD has found and synced.
	drifts int
	// begun is the position in the audit log at the creation of the application.
	begun int64
	// seen are the numbers of replicas that the application's MCPServers have declared since then. allowed are the permitted ones.
	seen    *declarations
	allowed declared
}

func newApplication(t *testing.T, namespace string, serverSide bool) *application {
	t.Helper()
	config, user := argoUser(t, namespace)
	clusterCache := cache.NewClusterCache(config,
		cache.SetNamespaces([]string{namespace}), cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(func(object *unstructured.Unstructured, _ bool) (any, bool) {
			id := object.GetAnnotations()[trackingAnnotation]
			return id, id != ""
		}))
	a := &application{
		namespace: namespace, serverSide: serverSide, config: config, user: user, cache: clusterCache,
		engine:  engine.NewEngine(config, clusterCache, engine.WithLogr(logr.Discard())),
		healths: argoHealths(t),
		seen:    recordDeclarations(t, namespace), allowed: declared{},
	}
	var err error
	a.begun, err = theCluster.AuditMark()
	must(t, err)
	stop, err := a.engine.Run()
	must(t, err)
	t.Cleanup(stop)
	return a
}

// argoUser creates a user for an application, and returns its credentials and name. Argo CD applies through a kubeconfig, which drops the
// user agent. Only the user name identifies its requests in the audit log.
func argoUser(t *testing.T, namespace string) (*rest.Config, string) {
	t.Helper()
	const account = "argocd-application-controller"
	kubectl(t, namespace, "create", "serviceaccount", account)
	kubectl(t, namespace, "create", "clusterrolebinding", namespace+"-"+account, "--clusterrole=cluster-admin",
		"--serviceaccount="+namespace+":"+account)
	t.Cleanup(func() {
		must(t, theCluster.Clients.RbacV1().ClusterRoleBindings().Delete(context.Background(), namespace+"-"+account, metav1.DeleteOptions{}))
	})
	token, err := theCluster.Clients.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account,
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	return &rest.Config{
		Host: theCluster.Config.Host, BearerToken: token.Status.Token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: theCluster.Config.CAData, CAFile: theCluster.Config.CAFile},
	}, "system:serviceaccount:" + namespace + ":" + account
}

// cycle is a round of auto-sync with self-heal. It compares Git with the cluster and syncs differences, until Argo CD's cached view of the
// cluster is in sync and every MCPServer is Healthy.
func (a *application) cycle(t *testing.T, git string) {
	t.Helper()
	eventually(t, "Argo CD to be Synced and Healthy", func() (string, bool) {
		targets := a.targets(t, git)
		synced, healthy := a.isSynced(t, targets), a.health(t, targets)
		if !synced {
			a.drifts++
			a.sync(t, targets)
		}
		return fmt.Sprintf("Synced: %t, %s: %s", synced, healthy.Status, healthy.Message), synced && healthy.Status == health.HealthStatusHealthy
	})
}

func (a *application) sync(t *testing.T, targets []*unstructured.Unstructured) {
	t.Helper()
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

// health returns the health, from Argo CD's cache, of the first MCPServer in Git that is not Healthy.
func (a *application) health(t *testing.T, targets []*unstructured.Unstructured) *health.HealthStatus {
	t.Helper()
	live, err := a.cache.GetManagedLiveObjs(targets, isManaged)
	must(t, err)
	for _, target := range targets {
		if target.GetKind() != "MCPServer" {
			continue
		}
		object := live[kube.GetResourceKey(target)]
		if object == nil {
			return &health.HealthStatus{Status: health.HealthStatusMissing, Message: target.GetName()}
		}
		if status := healthOf(t, object, a.healths); status.Status != health.HealthStatusHealthy {
			return status
		}
	}
	return &health.HealthStatus{Status: health.HealthStatusHealthy}
}

// targets returns the objects in Git with Argo CD's tracking annotation. It permits the numbers of replicas that they declare.
func (a *application) targets(t *testing.T, git string) []*unstructured.Unstructured {
	t.Helper()
	targets, err := kube.SplitYAML([]byte(git))
	must(t, err)
	for _, target := range targets {
		target.SetNamespace(a.namespace)
		target.SetAnnotations(map[string]string{trackingAnnotation: fmt.Sprintf("app:%s:%s/%s", target.GetKind(), a.namespace, target.GetName())})
		if replicas, isDeclared, err := unstructured.NestedFieldNoCopy(target.Object, "spec", "replicas"); err == nil && isDeclared {
			a.allowed.add(target.GetName(), fmt.Sprint(replicas))
		}
	}
	return targets
}

// isSynced compares as Argo CD does, with server-side apply and only the fields that Argo CD owns. An object that is no longer in Git, or
// not yet in the cluster, is a difference. There is no ignoreDifferences.
func (a *application) isSynced(t *testing.T, targets []*unstructured.Unstructured) bool {
	t.Helper()
	live, err := a.cache.GetManagedLiveObjs(targets, isManaged)
	must(t, err)
	pairs := sync.Reconcile(targets, live, a.namespace, a.cache)
	differences, err := diff.DiffArray(pairs.Target, pairs.Live, diff.WithLogr(logr.Discard()),
		diff.WithStructuredMergeDiff(a.serverSide), diff.WithGVKParser(a.cache.GetGVKParser()), diff.WithManager(argoManager))
	must(t, err)
	return !differences.Modified && !slices.Contains(pairs.Target, nil) && !slices.Contains(pairs.Live, nil)
}

func isManaged(r *cache.Resource) bool {
	id, _ := r.Info.(string)
	return strings.HasPrefix(id, "app:")
}

// cycles runs a number of rounds, and calls act in each round. No round may find a difference. In every fourth round, Argo CD syncs right
// after act, as a user or a webhook can request. That sync must not change the result either. The function that act returns checks the
// result.
func (a *application) cycles(t *testing.T, git string, number int, act func(i int) (becomes func())) {
	t.Helper()
	before := a.drifts
	for i := range number {
		becomes := act(i)
		if i%4 == 3 {
			a.sync(t, a.targets(t, git))
		}
		becomes()
		a.cycle(t, git)
		operatorPasses(t, named(a.namespace, "web"))
	}
	if a.drifts != before {
		t.Fatalf("Argo CD found %d differences in %d cycles", a.drifts-before, number)
	}
	a.wroteNoScale(t)
}

// nobody does nothing in a round.
func nobody(int) func() { return func() {} }

// kubectlScales returns an act that scales an MCPServer with kubectl scale, to each of the numbers in turn.
func kubectlScales(t *testing.T, server client.ObjectKey, numbers ...int32) func(i int) func() {
	return func(i int) func() {
		t.Helper()
		kubectlScale(t, server, numbers[i%len(numbers)])
		return func() { scaleIs(t, server, numbers[i%len(numbers)]) }
	}
}

// autoscales returns an act that makes the autoscaler scale web, to each of the numbers in turn.
func autoscales(t *testing.T, server client.ObjectKey, numbers ...int32) func(i int) func() {
	return func(i int) func() {
		t.Helper()
		n := numbers[i%len(numbers)]
		kubectl(t, server.Namespace, "patch", "hpa", server.Name, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"minReplicas":%[1]d,"maxReplicas":%[1]d}}`, n))
		return func() { scaleIs(t, server, n) }
	}
}

// both returns an act that runs two acts at the same time.
func both(one, other func(i int) func()) func(i int) func() {
	return func(i int) func() {
		becomes, otherBecomes := one(i), other(i)
		return func() { becomes(); otherBecomes() }
	}
}

// TestArgoCD verifies that an application is always Synced, and that neither Argo CD nor the operator writes a scale that another manager
// owns.
func TestArgoCD(t *testing.T) {
	for _, promise := range []struct {
		name  string
		holds func(t *testing.T, app *application, web, api client.ObjectKey)
	}{
		{"replicas left to kubectl scale", leavesReplicasToKubectl},
		{"an autoscaler in Git, and kubectl scale against it", runsAnAutoscalerFromGit},
		{"replicas left to an autoscaler and kubectl scale", worksBesideTwoScalers},
		{"replicas declared in Git, then kubectl scale", declaresAndYieldsToKubectl},
		{"replicas declared in Git, then an autoscaler", declaresAndYieldsToAnAutoscaler},
		{"a manual change of the MCPServer is reverted", healsTheMCPServer},
	} {
		for _, serverSide := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, server-side apply %t", promise.name, serverSide), func(t *testing.T) {
				t.Parallel()
				namespace := newNamespace(t)
				app := newApplication(t, namespace, serverSide)
				promise.holds(t, app, named(namespace, "web"), named(namespace, "api"))
				isManagedBy(t, named(namespace, "web"), argoManager, serverSide)
				app.wroteNoScale(t)
			})
		}
	}
}

const (
	version1 = "registry.example/server:1"
	version2 = "registry.example/server:2"
)

func leavesReplicasToKubectl(t *testing.T, app *application, web, api client.ObjectKey) {
	git := together(mcpServer("web", version1), mcpServer("api", version1))
	app.cycle(t, git)
	scaleIs(t, web, 1)
	kubectlScale(t, web, 3)
	kubectlScale(t, api, 2)
	scaleIs(t, web, 3)
	scaleIs(t, api, 2)
	leftToOthers(t, holds(t, api, 2, func() {
		// Each cycle scales the StatefulSet. The last scale is 3.
		leftToOthers(t, moves(t, web, repeated([]int32{3, 1, 2}, 20, 3), func() {
			app.cycles(t, git, 20, kubectlScales(t, web, 1, 2, 3))
			kubectlScale(t, web, 3)
			scaleIs(t, web, 3)
		}))
		// Git has a new version.
		git = together(mcpServer("web", version2), mcpServer("api", version2))
		leftToOthers(t, holds(t, web, 3, func() {
			app.cycle(t, git)
			scaleIs(t, web, 3)
			app.cycles(t, git, 4, nobody)
		}))
	}))
	neitherOwnsTheScale(t, web, argoManager)
}

func runsAnAutoscalerFromGit(t *testing.T, app *application, web, api client.ObjectKey) {
	servers := together(mcpServer("web", version1), mcpServer("api", version1))
	git := together(servers, autoscaler(4))
	app.cycle(t, git)
	scaleIs(t, web, 4)
	git = together(servers, autoscaler(2))
	app.cycle(t, git)
	scaleIs(t, web, 2)
	leftToOthers(t, holds(t, api, 1, func() {
		// In each cycle, kubectl changes the scale and the autoscaler changes it back.
		leftToOthers(t, moves(t, web, repeated([]int32{2, 1, 2, 3}, 2*20, 2), func() {
			app.cycles(t, git, 20, func(i int) func() {
				kubectlScale(t, web, []int32{1, 3}[i%2])
				return func() { scaleIs(t, web, 2) }
			})
		}))
		// After the autoscaler is pruned from Git, it is deleted and the scale stays.
		leftToOthers(t, holds(t, web, 2, func() {
			app.cycle(t, servers)
			if left := kubectl(t, web.Namespace, "get", "hpa", "-o", "name"); left != "" {
				t.Fatalf("Argo CD is Synced, but this object is not in Git: %s", left)
			}
			app.cycles(t, servers, 4, nobody)
		}))
	}))
	neitherOwnsTheScale(t, web, argoManager)
}

func worksBesideTwoScalers(t *testing.T, app *application, web, api client.ObjectKey) {
	git := together(mcpServer("web", version1), mcpServer("api", version1))
	app.cycle(t, git)
	apply(t, web.Namespace, autoscaler(3))
	scaleIs(t, web, 3)
	leftToOthers(t, moves(t, api, repeated([]int32{1, 2}, 20, 1), func() {
		leftToOthers(t, moves(t, web, repeated([]int32{3, 1, 2}, 20, 2), func() {
			app.cycles(t, git, 20, both(autoscales(t, web, 1, 2, 3), kubectlScales(t, api, 2, 1)))
		}))
	}))
	neitherOwnsTheScale(t, web, argoManager)
	neitherOwnsTheScale(t, api, argoManager)
}

func declaresAndYieldsToKubectl(t *testing.T, app *application, web, api client.ObjectKey) {
	git := together(mcpServer("web", version1, "replicas: 2"), mcpServer("api", version1, "replicas: 1"))
	app.cycle(t, git)
	scaleIs(t, web, 2)
	// After kubectl scale in an incident, the scale stays. Argo CD sees no drift, because the MCPServer is unchanged.
	kubectlScale(t, web, 5)
	scaleIs(t, web, 5)
	leftToOthers(t, moves(t, web, repeated([]int32{5, 1, 4}, 20, 5), func() {
		app.cycles(t, git, 20, kubectlScales(t, web, 1, 4, 5))
		kubectlScale(t, web, 5)
		scaleIs(t, web, 5)
	}))
	// A new number in Git counts.
	git = together(mcpServer("web", version1, "replicas: 3"), mcpServer("api", version1, "replicas: 1"))
	moves(t, web, []int32{5, 3}, func() {
		app.cycle(t, git)
		scaleIs(t, web, 3)
		app.cycles(t, git, 4, nobody)
	})
	// After the number is removed from Git, the pods stay.
	git = together(mcpServer("web", version1), mcpServer("api", version1, "replicas: 1"))
	holds(t, web, 3, func() {
		app.cycle(t, git)
		app.cycles(t, git, 4, nobody)
	})
	neitherOwnsTheScale(t, web, argoManager)
	scaleIs(t, api, 1)
}

func declaresAndYieldsToAnAutoscaler(t *testing.T, app *application, web, api client.ObjectKey) {
	servers := func(n int) string {
		return together(mcpServer("web", version1, fmt.Sprintf("replicas: %d", n)), mcpServer("api", version1, "replicas: 2"))
	}
	app.cycle(t, servers(2))
	scaleIs(t, web, 2)
	apply(t, web.Namespace, autoscaler(3))
	scaleIs(t, web, 3)
	leftToOthers(t, moves(t, web, repeated([]int32{3, 1, 2}, 20, 1), func() {
		app.cycles(t, servers(2), 20, autoscales(t, web, 1, 2, 3))
		autoscales(t, web, 1)(0)()
	}))
	// A new number in Git counts once. Then the autoscaler takes over again.
	moves(t, web, []int32{1, 4, 1}, func() {
		app.cycle(t, servers(4))
		scaleIs(t, web, 1)
		app.cycles(t, servers(4), 4, nobody)
	})
	neitherOwnsTheScale(t, web, argoManager)
	scaleIs(t, api, 2)
}

func healsTheMCPServer(t *testing.T, app *application, web, _ client.ObjectKey) {
	git := together(mcpServer("web", version1, "replicas: 2"), mcpServer("api", version1))
	app.cycle(t, git)
	scaleIs(t, web, 2)
	app.allowed.add("web", "4")
	kubectl(t, web.Namespace, "scale", "mcpserver", "web", "--replicas=4")
	eventually(t, "Argo CD to detect and revert the drift", func() (string, bool) {
		before := app.drifts
		app.cycle(t, git)
		return "no difference", app.drifts > before
	})
	scaleIs(t, web, 2)
}
