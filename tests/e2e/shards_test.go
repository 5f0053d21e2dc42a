package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestTwoOperatorsOnDisjointNamespaces verifies that two operators, each with a namespace, a ServiceAccount and a lease of its own, share the
// MCPServers of a cluster by namespace. Each runs those of its namespaces and sends no request to the namespaces of the other, one works while the
// other does not, and a namespace that moves from one to the other keeps its pods and its scale.
func TestTwoOperatorsOnDisjointNamespaces(t *testing.T) {
	theCluster.NeedAuditLog(t)
	theSuiteOperatorIsAway(t)
	ofA, ofB, moving, ofNeither := newTenant(t), newTenant(t), newTenant(t), newTenant(t)
	a, b := newShard(t), newShard(t)
	begin := time.Now()
	mark, err := theCluster.AuditMark()
	must(t, err)
	for _, namespace := range []tenant{ofA, moving, ofB, ofNeither} {
		namespace.apply(t, undeclared)
	}
	a.runs(t, ofA, moving)
	b.runs(t, ofB)
	for _, namespace := range []tenant{ofA, moving, ofB} {
		namespace.isReady(t, 1)
	}
	moving.kubectl(t, "scale", "statefulset", server, "--replicas=3")
	moving.isReady(t, 3)
	pods := moving.pods(t)
	scale, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: string(moving), Name: server})
	must(t, err)

	a.runs(t, ofA)
	moved := time.Now()
	b.runs(t, ofB, moving)
	moving.isEdited(t, 1)
	a.ends(t)
	ofB.isEdited(t, 2)
	moving.isEdited(t, 2)
	b.ends(t)
	a.runs(t, ofA)
	ofA.isEdited(t, 1)

	seen, err := scale.Stop(t.Context())
	must(t, err)
	if !slices.Equal(seen, []int32{3}) {
		t.Errorf("while the namespace moved, the scale was %v", seen)
	}
	if now := moving.pods(t); !slices.Equal(now, pods) {
		t.Errorf("while the namespace moved, the pods were replaced: %v, now %v", pods, now)
	}
	a.sentRequestsOnlyTo(t, mark, begin, ofA, moving)
	a.sentRequestsOnlyTo(t, mark, moved, ofA)
	b.sentRequestsOnlyTo(t, mark, begin, ofB, moving)
	ofNeither.isLeftAlone(t)
}

// TestTwoOperatorsOnTheSameNamespace verifies what still holds if an admin gives a namespace to two operators of the same version by mistake: nobody
// loses the scale, and once all is as the MCPServer asks, neither writes.
func TestTwoOperatorsOnTheSameNamespace(t *testing.T) {
	theCluster.NeedAuditLog(t)
	theSuiteOperatorIsAway(t)
	shared := newTenant(t)
	a, b := newShard(t), newShard(t)
	for _, shard := range []*shard{a, b} {
		shard.mayManage(t, shared, "shared-"+shard.namespace)
		shard.runs(t, shared)
	}
	shared.apply(t, declared(2))
	shared.isReady(t, 2)
	scale, err := theCluster.RecordScale(t.Context(), client.ObjectKey{Namespace: string(shared), Name: server})
	must(t, err)
	shared.apply(t, undeclared) // releases the scale
	shared.isEdited(t, 1)
	shared.kubectl(t, "scale", "statefulset", server, "--replicas=3")
	shared.isReady(t, 3)
	shared.isEdited(t, 2)
	shared.isReady(t, 3)
	seen, err := scale.Stop(t.Context())
	must(t, err)
	if !slices.Equal(seen, []int32{2, 3}) {
		t.Errorf("the scale was %v", seen)
	}

	const quiet = 10 * time.Second
	var last []cluster.Request
	since := time.Now()
	mark, err := theCluster.AuditMark()
	must(t, err)
	eventually(t.Context(), t, fmt.Sprintf("no write for %s", quiet), func(context.Context) (string, bool) {
		writes := append(a.writes(t, mark), b.writes(t, mark)...)
		if len(writes) != len(last) {
			since, last = time.Now(), writes
		}
		return fmt.Sprint(last), time.Since(since) > quiet
	})
}

// theSuiteOperatorIsAway stops the operator of the suite until the test ends.
func theSuiteOperatorIsAway(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { must(t, suiteOperator.Start(context.Background())) })
	must(t, suiteOperator.Stop())
}

// shard is one of several operators in a cluster, installed in a namespace of its own.
type shard struct {
	namespace   string
	user, token string
	operator    *cluster.Operator
}

// newShard installs the ServiceAccount and the permissions of deploy/ in a new namespace.
func newShard(t *testing.T) *shard {
	t.Helper()
	s := &shard{namespace: theCluster.NewNamespace(t, "operator-")}
	for _, file := range []string{"service_account.yaml", "leader_election.yaml"} {
		manifest, err := os.ReadFile("../../deploy/rbac/" + file)
		must(t, err)
		_, err = theCluster.KubectlWithInput(t.Context(), strings.ReplaceAll(string(manifest), cluster.OperatorNamespace, s.namespace),
			"apply", "--server-side", "-f", "-")
		must(t, err)
	}
	day := int64((24 * time.Hour).Seconds())
	request, err := theCluster.Clients.CoreV1().ServiceAccounts(s.namespace).CreateToken(t.Context(), operatorAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &day}}, metav1.CreateOptions{})
	must(t, err)
	s.user = fmt.Sprintf("system:serviceaccount:%s:%s", s.namespace, operatorAccount)
	s.token = request.Status.Token
	t.Cleanup(func() { s.ends(t) })
	return s
}

// operatorAccount is the ServiceAccount and the ClusterRole of an operator.
const operatorAccount = "mcpserver-operator"

// runs makes the shard the operator of the given namespaces, and of no others, as an upgrade of its Helm release does.
func (s *shard) runs(t *testing.T, namespaces ...tenant) {
	t.Helper()
	s.ends(t)
	var names []string
	for _, namespace := range namespaces {
		s.mayManage(t, namespace, operatorAccount)
		names = append(names, string(namespace))
	}
	var err error
	s.operator, err = theCluster.StartOperatorThrough(t.Context(), func(config *rest.Config) { config.BearerToken = s.token },
		"--leader-elect", "--leader-election-namespace="+s.namespace, "--namespaces="+strings.Join(names, ","))
	must(t, err)
}

// mayManage gives the shard the permissions of an operator in a namespace, and waits until the API server grants them: its operator must see no
// refusal. A RoleBinding of another shard with the same name goes over to it.
func (s *shard) mayManage(t *testing.T, in tenant, name string) {
	t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: string(in), Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: operatorAccount},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: operatorAccount}},
	}
	must(t, client.IgnoreNotFound(theCluster.Client.Delete(t.Context(), binding.DeepCopy())))
	must(t, theCluster.Client.Create(t.Context(), binding))
	eventually(t.Context(), t, "the permissions in "+string(in), func(ctx context.Context) (string, bool) {
		allowed, err := theCluster.MayPatchStatefulSets(ctx, s.user, string(in))
		must(t, err)
		return fmt.Sprint(allowed), allowed
	})
}

// ends stops the operator of the shard, if it runs.
func (s *shard) ends(t *testing.T) {
	t.Helper()
	if s.operator != nil {
		must(t, s.operator.Stop())
		s.operator = nil
	}
}

// sentRequestsOnlyTo verifies that all requests of the shard after the given time were permitted, and went to its own namespace or to the given
// ones. The mark in the audit log must be earlier: the API server logs a watch only when it ends.
func (s *shard) sentRequestsOnlyTo(t *testing.T, mark int64, since time.Time, namespaces ...tenant) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, s.user)
	must(t, err)
	if len(requests) == 0 {
		t.Errorf("the audit log has no request of %s", s.user)
	}
	for _, request := range requests {
		if request.Time.Before(since) {
			continue
		}
		if request.Denied {
			t.Errorf("missing permission: %s", request)
		}
		if request.Namespace != "" && request.Namespace != s.namespace && !slices.Contains(namespaces, tenant(request.Namespace)) {
			t.Errorf("a request to a namespace of another: %s", request)
		}
	}
}

// writes returns the writes of the shard since a mark.
func (s *shard) writes(t *testing.T, mark int64) []cluster.Request {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, s.user)
	must(t, err)
	return slices.DeleteFunc(requests, func(request cluster.Request) bool { return !request.IsWrite() })
}

// tenant is a namespace with one MCPServer.
type tenant string

func newTenant(t *testing.T) tenant { return tenant(theCluster.NewNamespace(t, "tenant-")) }

func (n tenant) kubectl(t *testing.T, args ...string) {
	t.Helper()
	_, err := theCluster.Kubectl(t.Context(), append([]string{"-n", string(n)}, args...)...)
	must(t, err)
}

func (n tenant) apply(t *testing.T, manifest string) {
	t.Helper()
	_, err := theCluster.KubectlWithInput(t.Context(), manifest, "apply", "--server-side", "--force-conflicts", "-n", string(n), "-f", "-")
	must(t, err)
}

// isReady waits until the MCPServer is Ready with the given number of pods.
func (n tenant) isReady(t *testing.T, pods int) {
	t.Helper()
	eventually(t.Context(), t, fmt.Sprintf("%d ready pods in %s", pods, n), func(ctx context.Context) (string, bool) {
		mcp := &v1beta1.MCPServer{}
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: string(n), Name: server}, mcp))
		return fmt.Sprintf("%+v", mcp.Status), ready(mcp) && mcp.Status.Ready == fmt.Sprintf("%d/%d", pods, pods)
	})
}

// isEdited changes a field of the MCPServer, and waits until the StatefulSet has it. The change restarts no pod.
func (n tenant) isEdited(t *testing.T, minReadySeconds int32) {
	t.Helper()
	n.kubectl(t, "patch", "mcpserver", server, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"minReadySeconds":%d}}`, minReadySeconds))
	eventually(t.Context(), t, "the edit in "+string(n), func(ctx context.Context) (string, bool) {
		set := &appsv1.StatefulSet{}
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: string(n), Name: server}, set))
		return fmt.Sprint(set.Spec.MinReadySeconds), set.Spec.MinReadySeconds == minReadySeconds
	})
}

// pods returns the UIDs of the pods.
func (n tenant) pods(t *testing.T) []types.UID {
	t.Helper()
	var pods corev1.PodList
	must(t, theCluster.Client.List(t.Context(), &pods, client.InNamespace(string(n))))
	var uids []types.UID
	for _, pod := range pods.Items {
		uids = append(uids, pod.UID)
	}
	slices.Sort(uids)
	return uids
}

// isLeftAlone verifies that no operator has written a status or a child.
func (n tenant) isLeftAlone(t *testing.T) {
	t.Helper()
	mcp := &v1beta1.MCPServer{}
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKey{Namespace: string(n), Name: server}, mcp))
	var sets appsv1.StatefulSetList
	must(t, theCluster.Client.List(t.Context(), &sets, client.InNamespace(string(n))))
	if mcp.Status.ObservedGeneration != -1 || len(sets.Items) > 0 {
		t.Errorf("in a namespace of no operator, an MCPServer has the status %+v and %d StatefulSets", mcp.Status, len(sets.Items))
	}
	for _, entry := range mcp.ManagedFields {
		if entry.Manager == applyconfigs.FieldManager {
			t.Errorf("the operator has written the MCPServer: %+v", entry)
		}
	}
}
