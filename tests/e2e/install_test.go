package e2e

import (
	"context"
	"net/http"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
)

// TestInstall: kubectl apply -k deploy installs everything, and pods of the operator are admitted where the restricted
// Pod Security Standard is enforced. The image cannot run here; a node that kwok plays says that it does.
func TestInstall(t *testing.T) {
	testEnv.Test(t, feature("kubectl apply -k deploy").
		Assess("is accepted, twice", all(
			clusterKubectl("apply", "--server-side", "-k", "deploy"), clusterKubectl("apply", "--server-side", "-k", "deploy"))).
		Assess("and runs two replicas", clusterKubectl("rollout", "status", "--timeout=90s",
			"--namespace", cluster.OperatorNamespace, "deployment/mcpserver-operator")).
		Assess("and goes away", clusterKubectl("delete", "-k", "deploy/manager", "--timeout=60s")).
		Feature())
}

// TestPermissions: the operator may do what it needs, and nothing else.
func TestPermissions(t *testing.T) {
	testEnv.Test(t, feature("the permissions of the operator").
		Assess("are exactly these", step(func(ctx context.Context, t *testing.T) {
			want := map[string][]string{
				"toolhive.stacklok.dev/mcpservers":            {"get", "list", "watch"},
				"toolhive.stacklok.dev/mcpservers/status":     {"patch"},
				"toolhive.stacklok.dev/mcpservers/finalizers": {"update"},
				"apps/statefulsets":                           {"create", "get", "list", "patch", "watch"},
				"autoscaling/horizontalpodautoscalers":        {"get", "list", "watch"},
				"/services":                                   {"create", "get", "list", "patch", "watch"},
				"/serviceaccounts":                            {"create", "delete", "get", "list", "patch", "watch"},
				"networking.k8s.io/networkpolicies":           {"create", "delete", "get", "list", "patch", "watch"},
				"policy/poddisruptionbudgets":                 {"create", "delete", "get", "list", "patch", "watch"},
				"/pods":                                       {"get", "list", "watch"},
				"events.k8s.io/events":                        {"create", "patch"},
			}
			var role rbacv1.ClusterRole
			must(t, theCluster.Client.Get(ctx, client.ObjectKey{Name: "mcpserver-operator"}, &role))
			got := map[string][]string{}
			for _, rule := range role.Rules {
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						got[group+"/"+resource] = append(got[group+"/"+resource], rule.Verbs...)
					}
				}
			}
			for resource, verbs := range want {
				slices.Sort(got[resource])
				if !slices.Equal(got[resource], verbs) {
					t.Errorf("%s: %v, wanted %v", resource, got[resource], verbs)
				}
				delete(got, resource)
			}
			if len(got) > 0 {
				t.Errorf("also: %v", got)
			}
		})).
		Assess("do not include Secrets", step(func(ctx context.Context, t *testing.T) {
			out, err := theCluster.Kubectl(ctx, "auth", "can-i", "get", "secrets", "--all-namespaces", "--as", cluster.OperatorUser)
			if err == nil {
				t.Fatalf("it may: %s", out)
			}
		})).
		Feature())
}

// TestNothingIsForbidden: the permissions suffice.
func TestNothingIsForbidden(t *testing.T) {
	needsAuditLog(t)
	testEnv.Test(t, feature("the permissions of the operator").
		Assess("suffice", step(func(ctx context.Context, t *testing.T) {
			mark, err := theCluster.AuditMark()
			must(t, err)
			all(apply(undeclared), scaleIs(1), apply(declared(2)), scaleIs(2), apply(undeclared),
				eventSays("ScaleReleased", "stays at 2"), operatorRestarts())(ctx, t, nil)
			requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
			must(t, err)
			for _, request := range requests {
				// What is refused in a namespace that is being deleted is not for want of a permission.
				if request.Code == http.StatusForbidden && (request.Namespace == in(ctx) || request.Namespace == cluster.OperatorNamespace) {
					t.Errorf("%s", request)
				}
			}
		})).
		Feature())
}

// TestLeaderElection: with --leader-elect the operator gets its lease with the permissions of deploy/, and gives it up
// when it stops, so that the next leader need not wait for it to expire.
func TestLeaderElection(t *testing.T) {
	holder := func(ctx context.Context, t *testing.T) string {
		out, err := theCluster.Kubectl(ctx, "--namespace", cluster.OperatorNamespace, "get", "lease",
			"mcpserver-operator.toolhive.stacklok.dev", "--ignore-not-found", "-o", "jsonpath={.spec.holderIdentity}")
		must(t, err)
		return out
	}
	testEnv.Test(t, feature("leader election").
		Assess("takes the lease, and gives it up", step(func(ctx context.Context, t *testing.T) {
			mark, markErr := theCluster.AuditMark()
			elected, err := theCluster.StartOperator(ctx, "--leader-elect",
				"--leader-election-namespace="+cluster.OperatorNamespace)
			must(t, err)
			eventually(ctx, t, "a leader", func(ctx context.Context) (string, bool) {
				identity := holder(ctx, t)
				return identity, identity != ""
			})
			must(t, elected.Stop())
			if identity := holder(ctx, t); identity != "" {
				t.Errorf("%s still holds the lease", identity)
			}
			if markErr != nil {
				return // an existing cluster
			}
			requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
			must(t, err)
			for _, request := range requests {
				if request.Code == http.StatusForbidden && request.Namespace == cluster.OperatorNamespace {
					t.Errorf("%s", request)
				}
			}
		})).
		Feature())
}
