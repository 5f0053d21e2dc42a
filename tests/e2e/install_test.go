package e2e

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

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

// TestPermissions: the operator may do exactly this, whatever role or binding it has it from.
func TestPermissions(t *testing.T) {
	everywhere := []string{
		"list events.k8s.io/events", "create events.k8s.io/events", "patch events.k8s.io/events",
		"get toolhive.stacklok.dev/mcpservers", "list toolhive.stacklok.dev/mcpservers", "watch toolhive.stacklok.dev/mcpservers",
		"patch toolhive.stacklok.dev/mcpservers/status", "update toolhive.stacklok.dev/mcpservers/finalizers",
		"get autoscaling/horizontalpodautoscalers", "list autoscaling/horizontalpodautoscalers", "watch autoscaling/horizontalpodautoscalers",
		"get /pods", "list /pods", "watch /pods",
		"create authentication.k8s.io/tokenreviews", "create authorization.k8s.io/subjectaccessreviews",
	}
	for _, applied := range []string{"apps/statefulsets", "/services"} {
		for _, verb := range []string{"get", "list", "watch", "create", "patch"} {
			everywhere = append(everywhere, verb+" "+applied)
		}
	}
	for _, dropped := range []string{"/serviceaccounts", "networking.k8s.io/networkpolicies", "policy/poddisruptionbudgets"} {
		for _, verb := range []string{"get", "list", "watch", "create", "patch", "delete"} {
			everywhere = append(everywhere, verb+" "+dropped)
		}
	}
	const lease = "coordination.k8s.io/leases"
	const itsLease = lease + " mcpserver-operator.toolhive.stacklok.dev"
	test := feature("the permissions of the operator")
	for _, where := range []struct {
		name      string
		namespace func(ctx context.Context) string
		more      []string
	}{
		{"any namespace", in, nil},
		{"its own namespace", func(context.Context) string { return cluster.OperatorNamespace }, []string{
			"create " + lease, "get " + itsLease, "update " + itsLease, "create /events", "patch /events",
		}},
	} {
		test = test.Assess("in "+where.name+" are exactly these", step(func(ctx context.Context, t *testing.T) {
			got := permissions(ctx, t, where.namespace(ctx))
			want := append(slices.Clone(everywhere), where.more...)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				for _, permission := range got {
					if !slices.Contains(want, permission) {
						t.Errorf("it may also %s", permission)
					}
				}
				for _, permission := range want {
					if !slices.Contains(got, permission) {
						t.Errorf("it may not %s", permission)
					}
				}
			}
		}))
	}
	testEnv.Test(t, test.Feature())
}

// permissions returns what the operator may do in a namespace and a ServiceAccount without any role may not, as VERB
// GROUP/RESOURCE: what Kubernetes gives to everybody differs from version to version.
func permissions(ctx context.Context, t *testing.T, namespace string) []string {
	t.Helper()
	config, err := theCluster.OperatorConfig(ctx)
	must(t, err)
	nobody := rest.CopyConfig(theCluster.Config)
	nobody.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:default:nobody",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"},
	}
	everybody := rulesOf(ctx, t, nobody, namespace)
	return slices.DeleteFunc(rulesOf(ctx, t, config, namespace), func(permission string) bool {
		return slices.Contains(everybody, permission)
	})
}

// rulesOf returns what a user may do in a namespace, sorted.
func rulesOf(ctx context.Context, t *testing.T, config *rest.Config, namespace string) []string {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	must(t, err)
	review, err := clients.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx,
		&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}, metav1.CreateOptions{})
	must(t, err)
	var all []string
	for _, rule := range review.Status.ResourceRules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					permission := verb + " " + group + "/" + resource
					if len(rule.ResourceNames) > 0 {
						permission += " " + strings.Join(rule.ResourceNames, ",")
					}
					all = append(all, permission)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestNothingIsForbidden: the permissions suffice.
func TestNothingIsForbidden(t *testing.T) {
	theCluster.NeedAuditLog(t)
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
