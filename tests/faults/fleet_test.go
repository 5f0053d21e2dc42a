package faults

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/scale"
)

// crdRemoved removes the CRD, and with it every MCPServer, and puts both back from a backup. The operators stay up. The
// actors, whose model is of MCPServers that exist, pause; others are scaled and edited until the CRD is back, and are not
// put back themselves.
func crdRemoved(t *testing.T, s *storm) {
	goOn := s.calm(t)
	defer goOn()
	lost := newNamespace(t)
	const number = 10
	createScaled(t, lost, number)
	others := scaleAndEdit(t, lost, number)
	restarts := s.operators.restarts()
	var backup v1alpha1.MCPServerList
	must(t, theCluster.Client.List(t.Context(), &backup, client.InNamespace(s.namespace)))

	_, err := theCluster.Kubectl(t.Context(), "delete", "-k", "deploy/crd", "--wait=false")
	must(t, err)
	before := others.succeeded.Load()
	_, err = theCluster.Kubectl(t.Context(), "wait", "--for=delete", "crd/mcpservers.toolhive.stacklok.dev", "--timeout=5m")
	must(t, err)
	eventually(t, "the children to go with the MCPServers", childrenAreGone(s.namespace))
	must(t, hold(t.Context(), 5*time.Second))
	others.stop()
	if others.succeeded.Load() == before {
		t.Error("nothing was scaled or edited while the CRD was removed")
	}
	eventually(t, "the children of those that are not put back to go", childrenAreGone(lost))
	mark, err := theCluster.AuditMark()
	must(t, err)

	must(t, theCluster.Install(t.Context()))
	for i, server := range backup.Items {
		must(t, s.actors[i].create(t.Context(), server.Spec))
	}
	t.Cleanup(func() { staysGone(t, lost, mark) }) // when the operators have recovered
	if n := s.operators.restarts() - restarts; n > 0 {
		t.Errorf("operators ended %d times", n)
	}
}

// staysGone fails if the operators have written to a namespace since a mark in the audit log, or if it has children again.
func staysGone(t *testing.T, namespace string, mark int64) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	if n := countWrites(requests, namespace); n > 0 {
		t.Errorf("the operators have written %d times to what is gone", n)
	}
	if state, gone := childrenAreGone(namespace)(context.Background()); !gone {
		t.Errorf("something has come back: %s", state)
	}
}

// childrenAreGone reports whether a namespace has no child of any MCPServer.
func childrenAreGone(namespace string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		for _, list := range []client.ObjectList{
			&appsv1.StatefulSetList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}, &policyv1.PodDisruptionBudgetList{}, &corev1.PodList{},
		} {
			if err := theCluster.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return err.Error(), false
			}
			left := 0
			must := apimeta.EachListItem(list, func(object runtime.Object) error {
				if account, is := object.(*corev1.ServiceAccount); !is || account.Name != "default" {
					left++
				}
				return nil
			})
			if must != nil || left > 0 {
				return fmt.Sprintf("%d of %T, %v", left, list, must), false
			}
		}
		return "", true
	}
}

// poisoned adds MCPServers that cannot be carried out: rejected by the API server, refused because a name is taken, and
// forbidden by a quota. New MCPServers among them, and right behind them, cost what they cost without them, and do not wait
// for them.
func poisoned(t *testing.T, _ *storm) {
	before := costOfGoodOnes(t)

	namespace := newNamespace(t)
	noSuchVolume := runtime.RawExtension{Raw: []byte(`{"spec":{"containers":[{"name":"mcp","volumeMounts":[{"name":"none","mountPath":"/none"}]}]}}`)}
	const rejected = 18
	for i := range rejected {
		createServer(t, namespace, fmt.Sprintf("rejected-%d", i), v1alpha1.MCPServerSpec{PodTemplateSpec: &noSuchVolume})
	}
	must(t, theCluster.Client.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "mcp-refused-proxy"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}))
	createServer(t, namespace, "refused", v1alpha1.MCPServerSpec{})
	full := newNamespace(t)
	must(t, theCluster.Client.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: full, Name: "full"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/statefulsets.apps": resource.MustParse("0")}},
	}))
	eventually(t, "the quota to be in force", func(ctx context.Context) (string, bool) {
		var quota corev1.ResourceQuota
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: full, Name: "full"}, &quota))
		return "", len(quota.Status.Hard) > 0
	})
	createServer(t, full, "forbidden", v1alpha1.MCPServerSpec{})
	isPoisoned := func(r cluster.Request) bool { return r.Namespace == namespace || r.Namespace == full }

	// While they fail for the first times.
	mark, err := theCluster.AuditMark()
	must(t, err)
	behind := costOfGoodOnes(t)
	areStalled(t, namespace, rejected+1)
	areStalled(t, full, 1)
	// Those that wait for their first pass come before the good ones, and while those are created every one of them may be
	// tried once more: four children, two tries of the StatefulSet with a look at the MCPServer each, the status, an event.
	if most, tries := 10*(rejected+2), countRequests(t, mark, behind.last, isPoisoned); tries > most {
		t.Errorf("the poisoned ones took %d requests until the good ones had their children, more than %d", tries, most)
	} else {
		t.Logf("the poisoned ones took %d requests until the good ones had their children", tries)
	}

	// And later.
	mark, err = theCluster.AuditMark()
	must(t, err)
	among := costOfGoodOnes(t)
	for what, cost := range map[string]cost{"right behind": behind, "among": among} {
		if !maps.Equal(before.writes, cost.writes) {
			t.Errorf("writes of children for the good ones: %v before, %v %s poisoned ones", before.writes, cost.writes, what)
		}
	}
	// Each is tried again after twice the time, from 100 ms to a minute: 11 times in the first 2 minutes, each with the
	// two requests for its StatefulSet and a status.
	if most, tries := 3*11*(rejected+2), countRequests(t, mark, time.Now(), isPoisoned); tries > most {
		t.Errorf("the poisoned ones took %d requests of the operators, more than %d", tries, most)
	}
	// They stay for as long as the storm is waited for.
}

// countRequests counts requests of the operators from a mark in the audit log until a time.
func countRequests(t *testing.T, mark int64, until time.Time, is func(cluster.Request) bool) (count int) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	for _, request := range requests {
		if is(request) && request.Time.Before(until) {
			count++
		}
	}
	return count
}

// cost is what it took the operators to bring MCPServers to Ready.
type cost struct {
	writes map[string]int // of children, by resource
	last   time.Time      // when the last one was answered
}

// costOfGoodOnes creates a few MCPServers, waits until they are Ready, and returns what it took.
func costOfGoodOnes(t *testing.T) cost {
	t.Helper()
	namespace := newNamespace(t)
	mark, err := theCluster.AuditMark()
	must(t, err)
	const number = 5
	begun := time.Now()
	for i := range number {
		createServer(t, namespace, fmt.Sprintf("good-%d", i), v1alpha1.MCPServerSpec{})
	}
	eventually(t, "the good ones to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
	took := time.Since(begun)
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	costs, all := cost{writes: map[string]int{}}, 0
	for _, request := range requests {
		if request.Namespace != namespace {
			continue
		}
		all++
		if request.IsWrite() && request.Code < 300 && request.Resource != "events" && request.Resource != "mcpservers" {
			costs.writes[request.Resource]++
			costs.last = request.Done
		}
	}
	t.Logf("%d MCPServers were Ready after %.1f s and %d requests of the operators; writes of children: %v",
		number, took.Seconds(), all, costs.writes)
	return costs
}

func createServer(t *testing.T, namespace, name string, spec v1alpha1.MCPServerSpec) {
	t.Helper()
	spec.Image = "registry.example/server:1"
	must(t, theCluster.Client.Create(t.Context(), &v1alpha1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec,
	}))
}

// areStalled waits until every MCPServer of a namespace says that it cannot go on.
func areStalled(t *testing.T, namespace string, number int) {
	t.Helper()
	eventually(t, "the poisoned ones to be Stalled", func(ctx context.Context) (string, bool) {
		var list v1alpha1.MCPServerList
		must(t, theCluster.Client.List(ctx, &list, client.InNamespace(namespace)))
		for _, server := range list.Items {
			if !apimeta.IsStatusConditionTrue(server.Status.Conditions, v1alpha1.ConditionStalled) {
				return fmt.Sprintf("%s: %v", server.Name, server.Status.Conditions), false
			}
		}
		return fmt.Sprint(len(list.Items)), len(list.Items) == number
	})
}

// createScaled creates MCPServers, of which half are held to their declaration, and waits until their StatefulSets exist.
func createScaled(t *testing.T, namespace string, number int) {
	t.Helper()
	for i := range number {
		spec := v1alpha1.MCPServerSpec{}
		if i%2 == 0 {
			spec.Replicas, spec.ReplicasConflictPolicy = ptr.To[int32](0), v1alpha1.ReplicasConflictForce
		}
		createServer(t, namespace, fmt.Sprintf("web-%d", i), spec)
	}
	eventually(t, fmt.Sprintf("%d StatefulSets", number), func(ctx context.Context) (string, bool) {
		var sets appsv1.StatefulSetList
		must(t, theCluster.Client.List(ctx, &sets, client.InNamespace(namespace)))
		return fmt.Sprint(len(sets.Items)), len(sets.Items) == number
	})
}

// others go on scaling and editing MCPServers, there or not, until they are stopped.
type others struct {
	succeeded atomic.Int32
	end       context.CancelFunc
	running   sync.WaitGroup
}

func (o *others) stop() {
	o.end()
	o.running.Wait()
}

func scaleAndEdit(t *testing.T, namespace string, number int) *others {
	t.Helper()
	const scalers = 10
	scaling, end := context.WithCancel(t.Context())
	o := &others{end: end}
	for first := range scalers {
		o.running.Go(func() {
			for i := first; scaling.Err() == nil; i += scalers {
				name := fmt.Sprintf("web-%d", i%number)
				requests := scale.Requests{Client: theCluster.Client, Key: client.ObjectKey{Namespace: namespace, Name: name}}
				var err error // of one that is gone already
				if rand.IntN(2) == 0 {
					err = requests.PatchScale(scaling, rand.Int32N(3))
				} else {
					err = requests.EditServer(scaling, `{"spec":{"replicas":%d}}`, rand.Int32N(3))
				}
				if err == nil {
					o.succeeded.Add(1)
				}
			}
		})
	}
	t.Cleanup(o.stop)
	return o
}

// hundredDeleted deletes 100 MCPServers at once while others go on scaling them. Nothing of them may come back or be left.
func hundredDeleted(t *testing.T, s *storm) {
	namespace := newNamespace(t)
	const number = 100
	createScaled(t, namespace, number)
	others := scaleAndEdit(t, namespace, number)
	must(t, hold(t.Context(), time.Second))
	must(t, theCluster.Client.DeleteAllOf(t.Context(), &v1alpha1.MCPServer{}, client.InNamespace(namespace)))
	before := others.succeeded.Load()
	must(t, hold(t.Context(), time.Second))
	others.stop()
	during := others.succeeded.Load() - before
	if t.Logf("%d of their scales were written before, %d after the request to delete them", before, during); during == 0 {
		t.Error("they were not scaled while they were deleted")
	}

	eventually(t, "the children to go with the MCPServers", childrenAreGone(namespace))
	mark, err := theCluster.AuditMark()
	must(t, err)
	must(t, hold(t.Context(), quietTime))
	staysGone(t, namespace, mark)
	families, err := s.operators.leader(t).operator.Metrics(t.Context())
	must(t, err)
	left := map[string]int{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			if strings.Contains(metric.String(), namespace) {
				left[name]++
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("the leader still has metrics of what is gone: %v", left)
	}
}
