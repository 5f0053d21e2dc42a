package faults

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
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
	goneOn := scaleAndEdit(t, lost, number)
	restarts := s.operators.restarts()
	var backup v1alpha1.MCPServerList
	must(t, theCluster.Client.List(t.Context(), &backup, client.InNamespace(s.namespace)))

	_, err := theCluster.Kubectl(t.Context(), "delete", "-k", "deploy/crd", "--timeout=5m")
	must(t, err)
	eventually(t, "the children to go with the MCPServers", childrenAreGone(s.namespace))
	must(t, hold(t.Context(), 5*time.Second))

	must(t, theCluster.Install(t.Context()))
	if goneOn() == 0 {
		t.Error("nothing was scaled or edited while the CRD was removed")
	}
	if state, gone := childrenAreGone(lost)(t.Context()); !gone {
		t.Errorf("something of what was not put back has come back: %s", state)
	}
	for i, server := range backup.Items {
		must(t, s.actors[i].create(t.Context(), server.Spec))
	}
	if n := s.operators.restarts() - restarts; n > 0 {
		t.Errorf("operators ended %d times", n)
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
// forbidden by a quota. New MCPServers among them cost what they cost without them.
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
	areStalled(t, namespace, rejected+1)
	areStalled(t, full, 1)

	mark, err := theCluster.AuditMark()
	must(t, err)
	if among := costOfGoodOnes(t); !maps.Equal(before, among) {
		t.Errorf("writes of children for the good ones: %v before, %v among poisoned ones", before, among)
	}
	// Each is tried again after twice the time, from 100 ms to a minute: 11 times in the first 2 minutes, each with the
	// two requests for its StatefulSet and a status.
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	tries := 0
	for _, request := range requests {
		if request.Namespace == namespace || request.Namespace == full {
			tries++
		}
	}
	t.Logf("meanwhile the poisoned ones took %d requests", tries)
	if most := 3 * 11 * (rejected + 2); tries > most {
		t.Errorf("the poisoned ones took %d requests of the operators, more than %d", tries, most)
	}
	// They stay for as long as the storm is waited for.
}

// costOfGoodOnes creates a few MCPServers, waits until they are Ready, and returns how often each kind of child was
// written.
func costOfGoodOnes(t *testing.T) map[string]int {
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
	writes, all := map[string]int{}, 0
	for _, request := range requests {
		if request.Namespace != namespace {
			continue
		}
		all++
		if request.IsWrite() && request.Code < 300 && request.Resource != "events" && request.Resource != "mcpservers" {
			writes[request.Resource]++
		}
	}
	t.Logf("%d MCPServers were Ready after %.1f s and %d requests of the operators; writes of children: %v", number, took.Seconds(), all, writes)
	return writes
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

// scaleAndEdit goes on scaling and editing these MCPServers, there or not, until it is stopped; then it returns how often
// it has succeeded.
func scaleAndEdit(t *testing.T, namespace string, number int) (stop func() int32) {
	t.Helper()
	const scalers = 10
	scaling, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var succeeded atomic.Int32
	for first := range scalers {
		running.Go(func() {
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
					succeeded.Add(1)
				}
			}
		})
	}
	return func() int32 {
		cancel()
		running.Wait()
		return succeeded.Load()
	}
}

// hundredDeleted deletes 100 MCPServers at once while others go on scaling them. Nothing of them may come back or be left.
func hundredDeleted(t *testing.T, s *storm) {
	namespace := newNamespace(t)
	const number = 100
	createScaled(t, namespace, number)
	stop := scaleAndEdit(t, namespace, number)
	must(t, hold(t.Context(), time.Second))
	beforeDeletion := stop()
	stop = scaleAndEdit(t, namespace, number)
	must(t, theCluster.Client.DeleteAllOf(t.Context(), &v1alpha1.MCPServer{}, client.InNamespace(namespace)))
	must(t, hold(t.Context(), time.Second))
	whileDeleted := stop()
	if t.Logf("%d of their scales were written before, %d while they were deleted", beforeDeletion, whileDeleted); whileDeleted == 0 {
		t.Error("they were not scaled while they were deleted")
	}

	eventually(t, "the children to go with the MCPServers", childrenAreGone(namespace))
	mark, err := theCluster.AuditMark()
	must(t, err)
	must(t, hold(t.Context(), quietTime))
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	if n := countWrites(requests, namespace); n > 0 {
		t.Errorf("the operators have written %d times to what is gone", n)
	}
	state, gone := childrenAreGone(namespace)(t.Context())
	if !gone {
		t.Errorf("something has come back: %s", state)
	}
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

// TestMCPServerPutBackOverItsOrphans: who deletes an MCPServer with --cascade=orphan, as to replace the CRD without stopping
// a pod, and puts it back, has children that are nobody's. They are left untouched until they are given to it; then it
// goes on with them, at the scale that they have and with the pods that run.
func TestMCPServerPutBackOverItsOrphans(t *testing.T) {
	operator, err := theCluster.StartOperator(t.Context())
	must(t, err)
	defer func() { must(t, operator.Stop()) }()
	namespace := newNamespace(t)
	key := client.ObjectKey{Namespace: namespace, Name: "web"}
	isolated := v1alpha1.MCPServerSpec{PermissionProfile: &v1alpha1.PermissionProfile{Type: "builtin", Name: v1alpha1.PermissionProfileNone}}
	createServer(t, namespace, "web", isolated)
	eventually(t, "the MCPServer to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
	must(t, scale.Requests{Client: theCluster.Client, Key: key}.PatchScale(t.Context(), 3))
	hasThreePods := func(ctx context.Context) (string, bool) {
		server := &v1alpha1.MCPServer{}
		must(t, theCluster.Client.Get(ctx, key, server))
		return fmt.Sprintf("%+v", server.Status), server.Status.Ready == "3/3"
	}
	eventually(t, "3 pods", hasThreePods)
	recorder, err := theCluster.RecordScale(t.Context(), key)
	must(t, err)
	before := podUIDs(t, namespace)

	_, err = theCluster.Kubectl(t.Context(), "-n", namespace, "delete", "mcpserver", "web", "--cascade=orphan")
	must(t, err)
	mark, err := theCluster.AuditMark()
	must(t, err)
	createServer(t, namespace, "web", isolated)
	areStalled(t, namespace, 1)
	must(t, hold(t.Context(), quietTime))
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == namespace && request.Resource != "mcpservers" && request.Resource != "events" {
			t.Errorf("the operator has written to an orphan: %s", request)
		}
	}

	runRecipe(t, namespace, "web")
	eventually(t, "the MCPServer to be Ready with its children", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
	eventually(t, "3 pods", hasThreePods)
	seen, err := recorder.Stop(t.Context())
	must(t, err)
	if len(seen) != 1 || seen[0] != 3 {
		t.Errorf("the scale has to stay at 3, but was %v", seen)
	}
	if after := podUIDs(t, namespace); !maps.Equal(before, after) {
		t.Errorf("the pods were %v and are %v", before, after)
	}
}

// runRecipe runs what docs/reliability.md says about children that are to be given to an MCPServer, in the shell of its users.
func runRecipe(t *testing.T, namespace, server string) {
	t.Helper()
	docs, err := os.ReadFile("../../docs/reliability.md")
	must(t, err)
	var recipe strings.Builder
	for line := range strings.Lines(string(docs)) {
		if code, isCode := strings.CutPrefix(line, "    "); isCode {
			recipe.WriteString(code)
		} else if strings.Contains(recipe.String(), "done\n") {
			break // what follows is another one
		}
	}
	script := strings.NewReplacer("NAME", server, "kubectl ", theCluster.KubectlPath()+" -n "+namespace+" ").Replace(recipe.String())
	command := exec.CommandContext(t.Context(), "bash", "-e", "-c", script)
	command.Env = append(os.Environ(), "KUBECONFIG="+theCluster.Kubeconfig)
	out, err := command.CombinedOutput()
	t.Logf("%s\n%s", script, out)
	must(t, err)
	if !strings.Contains(string(out), "networkpolicy") {
		t.Error("the recipe has left the NetworkPolicy out")
	}
}

func podUIDs(t *testing.T, namespace string) map[string]string {
	t.Helper()
	var pods corev1.PodList
	must(t, theCluster.Client.List(t.Context(), &pods, client.InNamespace(namespace)))
	uids := map[string]string{}
	for _, pod := range pods.Items {
		uids[pod.Name] = string(pod.UID)
	}
	return uids
}
