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

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/scale"
)

// crdRemoved removes the CRD, which also deletes every MCPServer, and restores both from a backup. The operators must keep running. The actors
// pause, because their models require MCPServers. Instead, other MCPServers are scaled and edited in the meantime, and are not restored.
func crdRemoved(t *testing.T, s *storm) {
	goOn := s.calm(t)
	defer goOn()
	lost := newNamespace(t)
	const number = 10
	createScaled(t, lost, number)
	others := scaleAndEdit(t, lost, number)
	restarts := s.operators.restarts()
	var backup v1beta1.MCPServerList
	must(t, theCluster.Client.List(t.Context(), &backup, client.InNamespace(s.namespace)))

	_, err := theCluster.Kubectl(t.Context(), "delete", "-k", "deploy/crd", "--wait=false")
	must(t, err)
	before := others.succeeded.Load()
	_, err = theCluster.Kubectl(t.Context(), "wait", "--for=delete", "crd/mcpservers.toolhive.stacklok.dev", "--timeout=5m")
	must(t, err)
	eventually(t, "the children to be deleted with the MCPServers", childrenAreGone(s.namespace))
	must(t, hold(t.Context(), 5*time.Second))
	others.stop()
	if others.succeeded.Load() == before {
		t.Error("no request to scale or edit succeeded while the CRD was removed")
	}
	eventually(t, "the children of the MCPServers that are not restored to be deleted", childrenAreGone(lost))
	mark, err := theCluster.AuditMark()
	must(t, err)

	must(t, theCluster.Install(t.Context()))
	for i, server := range backup.Items {
		must(t, s.actors[i].create(t.Context(), server.Spec))
	}
	t.Cleanup(func() { staysGone(t, lost, mark) }) // at the end of the test, when the operators have recovered
	if n := s.operators.restarts() - restarts; n > 0 {
		t.Errorf("operators exited %d times", n)
	}
}

// staysGone fails if the operators have written to a namespace since a mark in the audit log, or if the namespace contains children.
func staysGone(t *testing.T, namespace string, mark int64) {
	t.Helper()
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	if n := countWrites(requests, namespace); n > 0 {
		t.Errorf("the operators have sent %d writes for deleted MCPServers", n)
	}
	if state, gone := childrenAreGone(namespace)(context.Background()); !gone {
		t.Errorf("children exist again: %s", state)
	}
}

// childrenAreGone returns a function that reports whether a namespace contains no child of any MCPServer.
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

// poisoned creates MCPServers that cannot be carried out: the API server rejects a child, the name of a child is taken, or a quota forbids a
// child. Other MCPServers that are created right after them or later must need the same writes as without them, and must not wait for them.
func poisoned(t *testing.T, _ *storm) {
	before := costOfGoodOnes(t)

	namespace := newNamespace(t)
	noSuchVolume := runtime.RawExtension{Raw: []byte(`{"spec":{"containers":[{"name":"mcp","volumeMounts":[{"name":"none","mountPath":"/none"}]}]}}`)}
	const rejected = 18
	for i := range rejected {
		createServer(t, namespace, fmt.Sprintf("rejected-%d", i), v1beta1.MCPServerSpec{PodTemplateSpec: &noSuchVolume})
	}
	must(t, theCluster.Client.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "mcp-refused-proxy"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}))
	createServer(t, namespace, "refused", v1beta1.MCPServerSpec{})
	full := newNamespace(t)
	must(t, theCluster.Client.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: full, Name: "full"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/statefulsets.apps": resource.MustParse("0")}},
	}))
	eventually(t, "the quota to take effect", func(ctx context.Context) (string, bool) {
		var quota corev1.ResourceQuota
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: full, Name: "full"}, &quota))
		return "", len(quota.Status.Hard) > 0
	})
	createServer(t, full, "forbidden", v1beta1.MCPServerSpec{})
	isPoisoned := func(r cluster.Request) bool { return r.Namespace == namespace || r.Namespace == full }

	// Right after their creation, during their first failures.
	mark, err := theCluster.AuditMark()
	must(t, err)
	behind := costOfGoodOnes(t)
	areStalled(t, namespace, rejected+1)
	areStalled(t, full, 1)
	// The first pass of each poisoned MCPServer comes before the good ones, and a second pass can happen while the good ones are created. The
	// requests are: four children, two attempts to write the StatefulSet with a read of the MCPServer each, the status, and an event.
	if most, tries := 10*(rejected+2), countRequests(t, mark, behind.last, isPoisoned); tries > most {
		t.Errorf("the poisoned MCPServers caused %d requests until the good ones had their children, more than %d", tries, most)
	} else {
		t.Logf("the poisoned MCPServers caused %d requests until the good ones had their children", tries)
	}

	// Later.
	mark, err = theCluster.AuditMark()
	must(t, err)
	among := costOfGoodOnes(t)
	for what, cost := range map[string]cost{"right after": behind, "among": among} {
		if !maps.Equal(before.writes, cost.writes) {
			t.Errorf("writes of children for the good MCPServers: %v before, %v %s the poisoned ones", before.writes, cost.writes, what)
		}
	}
	// The delay between retries doubles from 100 ms to a minute: 11 retries in the first 2 minutes. Each retry sends two requests for the
	// StatefulSet and one for the status.
	if most, tries := 3*11*(rejected+2), countRequests(t, mark, time.Now(), isPoisoned); tries > most {
		t.Errorf("the poisoned MCPServers caused %d requests of the operators, more than %d", tries, most)
	}
	// The poisoned MCPServers exist until the end of the subtest, after the actors have taken a step.
}

// countRequests counts the selected requests of the operators between a mark in the audit log and a time.
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

// cost contains the writes that the operators needed until MCPServers were Ready.
type cost struct {
	writes map[string]int // of children, by resource
	last   time.Time      // when the last write was answered
}

// costOfGoodOnes creates a few MCPServers, waits until they are Ready, and returns their cost.
func costOfGoodOnes(t *testing.T) cost {
	t.Helper()
	namespace := newNamespace(t)
	mark, err := theCluster.AuditMark()
	must(t, err)
	const number = 5
	begun := time.Now()
	for i := range number {
		createServer(t, namespace, fmt.Sprintf("good-%d", i), v1beta1.MCPServerSpec{})
	}
	eventually(t, "the good MCPServers to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
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

func createServer(t *testing.T, namespace, name string, spec v1beta1.MCPServerSpec) {
	t.Helper()
	spec.Image = "registry.example/server:1"
	must(t, theCluster.Client.Create(t.Context(), &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec,
	}))
}

// areStalled waits until a namespace contains the given number of MCPServers and all of them are Stalled.
func areStalled(t *testing.T, namespace string, number int) {
	t.Helper()
	eventually(t, "the MCPServers to be Stalled", func(ctx context.Context) (string, bool) {
		var list v1beta1.MCPServerList
		must(t, theCluster.Client.List(ctx, &list, client.InNamespace(namespace)))
		for _, server := range list.Items {
			if !apimeta.IsStatusConditionTrue(server.Status.Conditions, v1beta1.ConditionStalled) {
				return fmt.Sprintf("%s: %v", server.Name, server.Status.Conditions), false
			}
		}
		return fmt.Sprint(len(list.Items)), len(list.Items) == number
	})
}

// createScaled creates MCPServers, and waits until their StatefulSets exist. Every other MCPServer declares 0 replicas with the policy Force.
func createScaled(t *testing.T, namespace string, number int) {
	t.Helper()
	for i := range number {
		spec := v1beta1.MCPServerSpec{}
		if i%2 == 0 {
			spec.Replicas, spec.ReplicasConflictPolicy = ptr.To[int32](0), v1beta1.ReplicasConflictForce
		}
		createServer(t, namespace, fmt.Sprintf("web-%d", i), spec)
	}
	eventually(t, fmt.Sprintf("%d StatefulSets", number), func(ctx context.Context) (string, bool) {
		var sets appsv1.StatefulSetList
		must(t, theCluster.Client.List(ctx, &sets, client.InNamespace(namespace)))
		return fmt.Sprint(len(sets.Items)), len(sets.Items) == number
	})
}

// others are clients that scale and edit MCPServers until stop is called, even if the MCPServers are deleted.
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
				var err error // the MCPServer may be deleted already
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

// hundredDeleted deletes 100 MCPServers at once while other clients scale them. No child may remain or be recreated, and no metric may remain.
func hundredDeleted(t *testing.T, s *storm) {
	namespace := newNamespace(t)
	const number = 100
	createScaled(t, namespace, number)
	others := scaleAndEdit(t, namespace, number)
	must(t, hold(t.Context(), time.Second))
	before := others.succeeded.Load()
	must(t, theCluster.Client.DeleteAllOf(t.Context(), &v1beta1.MCPServer{}, client.InNamespace(namespace)))
	must(t, hold(t.Context(), time.Second))
	others.stop()
	during := others.succeeded.Load() - before
	if t.Logf("%d writes to the MCPServers and their scales before, %d since the request to delete them", before, during); during == 0 {
		t.Error("no MCPServer was scaled while they were deleted")
	}

	eventually(t, "the children to be deleted with the MCPServers", childrenAreGone(namespace))
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
		t.Errorf("the leader still has metrics of deleted MCPServers: %v", left)
	}
}
