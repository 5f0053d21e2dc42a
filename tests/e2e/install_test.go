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

// TestInstall verifies that kubectl apply -k deploy installs everything, and that the operator's pods are admitted under the restricted
// Pod Security Standard. The image does not run: kwok simulates the node and reports the pods as ready.
func TestInstall(t *testing.T) {
	testEnv.Test(t, feature("kubectl apply -k deploy").
		Setup(afterwards(clusterKubectl("delete", "--ignore-not-found", "-k", "deploy/manager", "--timeout=60s"))).
		Assess("is accepted, twice", all(
			clusterKubectl("apply", "--server-side", "-k", "deploy"), clusterKubectl("apply", "--server-side", "-k", "deploy"))).
		Assess("runs two replicas", clusterKubectl("rollout", "status", "--timeout=90s",
			"--namespace", cluster.OperatorNamespace, "deployment/mcpserver-operator")).
		Assess("can be deleted", clusterKubectl("delete", "-k", "deploy/manager", "--timeout=60s")).
		Feature())
}

// TestPermissions verifies the exact permissions of the operator, independent of the role or binding that grants them.
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
						t.Errorf("unexpected permission: %s", permission)
					}
				}
				for _, permission := range want {
					if !slices.Contains(got, permission) {
						t.Errorf("missing permission: %s", permission)
					}
				}
			}
		}))
	}
	testEnv.Test(t, test.Feature())
}

// TestTheRolesOfUsers verifies what the default ClusterRoles of Kubernetes permit on MCPServers. None of them permits to write the status.
func TestTheRolesOfUsers(t *testing.T) {
	var reads, writes []string
	for _, resource := range []string{"mcpservers", "mcpservers/scale", "mcpservers/status"} {
		for _, verb := range []string{"get", "list", "watch"} {
			reads = append(reads, verb+" toolhive.stacklok.dev/"+resource)
		}
	}
	for _, resource := range []string{"mcpservers", "mcpservers/scale"} {
		for _, verb := range []string{"create", "delete", "deletecollection", "patch", "update"} {
			writes = append(writes, verb+" toolhive.stacklok.dev/"+resource)
		}
	}
	test := feature("the roles of users")
	for role, want := range map[string][]string{"view": reads, "edit": slices.Concat(reads, writes), "admin": slices.Concat(reads, writes)} {
		slices.Sort(want)
		test = test.Assess(role+" permits exactly this on MCPServers", step(func(ctx context.Context, t *testing.T) {
			user := rest.CopyConfig(theCluster.Config)
			user.Impersonate = rest.ImpersonationConfig{UserName: "user-" + role}
			kubectl("create", "rolebinding", role, "--clusterrole="+role, "--user="+user.Impersonate.UserName)(ctx, t, nil)
			eventually(ctx, t, "the permissions to be added to the ClusterRole", func(ctx context.Context) (string, bool) {
				got := slices.DeleteFunc(rulesOf(ctx, t, user, in(ctx)), func(permission string) bool {
					return !strings.Contains(permission, " toolhive.stacklok.dev/")
				})
				return strings.Join(got, ", "), slices.Equal(got, want)
			})
		}))
	}
	testEnv.Test(t, test.Feature())
}

// permissions returns the operator's permissions in a namespace, as VERB GROUP/RESOURCE. It leaves out the permissions that a
// ServiceAccount without any role has, because these depend on the version of Kubernetes.
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

// rulesOf returns the permissions of a user in a namespace, sorted.
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

// TestNothingIsForbidden verifies that the permissions of the operator are sufficient.
func TestNothingIsForbidden(t *testing.T) {
	theCluster.NeedAuditLog(t)
	testEnv.Test(t, feature("the permissions of the operator").
		Assess("are sufficient", step(func(ctx context.Context, t *testing.T) {
			mark, err := theCluster.AuditMark()
			must(t, err)
			all(apply(undeclared), scaleIs(1), apply(declared(2)), scaleIs(2), apply(undeclared),
				eventSays("ScaleReleased", "stays at 2"), operatorRestarts())(ctx, t, nil)
			requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
			must(t, err)
			for _, request := range requests {
				// Requests in a namespace that is being deleted can fail for reasons other than permissions.
				if request.Code == http.StatusForbidden && (request.Namespace == in(ctx) || request.Namespace == cluster.OperatorNamespace) {
					t.Errorf("%s", request)
				}
			}
		})).
		Feature())
}

// TestLeaderElection verifies that the permissions of deploy/ suffice for --leader-elect, and that the operator releases its lease when
// it stops, so that the next leader does not have to wait for the lease to expire.
func TestLeaderElection(t *testing.T) {
	holder := func(ctx context.Context, t *testing.T) string {
		out, err := theCluster.Kubectl(ctx, "--namespace", cluster.OperatorNamespace, "get", "lease",
			"mcpserver-operator.toolhive.stacklok.dev", "--ignore-not-found", "-o", "jsonpath={.spec.holderIdentity}")
		must(t, err)
		return out
	}
	testEnv.Test(t, feature("leader election").
		Assess("acquires the lease and releases it", step(func(ctx context.Context, t *testing.T) {
			mark, markErr := theCluster.AuditMark()
			elected, err := theCluster.StartOperator(ctx, "--leader-elect",
				"--leader-election-namespace="+cluster.OperatorNamespace)
			must(t, err)
			t.Cleanup(func() { must(t, elected.Stop()) })
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
