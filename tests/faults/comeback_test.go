package faults

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
	"mcpserver-operator/tests/scale"
)

// TestMCPServerPutBackOverItsOrphans verifies the instructions in docs/reliability.md. A user deletes an MCPServer with --cascade=orphan, for
// example to replace the CRD without stopping a pod, and creates the MCPServer again. The children then have no owner, and the operator must not
// change them until the user makes the MCPServer their owner. Then the operator must continue with the same scale and the same pods.
func TestMCPServerPutBackOverItsOrphans(t *testing.T) {
	key := newKeyWithOperator(t)
	namespace := key.Namespace
	isolated := v1beta1.MCPServerSpec{PermissionProfile: &v1beta1.PermissionProfile{Type: "builtin", Name: v1beta1.PermissionProfileNone}}
	createServer(t, namespace, "web", isolated)
	eventually(t, "the MCPServer to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
	must(t, scale.Requests{Client: theCluster.Client, Key: key}.PatchScale(t.Context(), 3))
	hasThreePods := func(ctx context.Context) (string, bool) {
		server := &v1beta1.MCPServer{}
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
		t.Errorf("the scale must stay at 3, but was %v", seen)
	}
	if after := podUIDs(t, namespace); !maps.Equal(before, after) {
		t.Errorf("the pods have changed from %v to %v", before, after)
	}
}

// TestStatefulSetWaitsForTheGarbageCollector verifies that the operator does not recreate a StatefulSet that was deleted while the garbage
// collector was down, until the garbage collector deletes the pods. Otherwise the garbage collector might never notice the deletion, and the old
// pods would prevent the creation of the new pods.
func TestStatefulSetWaitsForTheGarbageCollector(t *testing.T) {
	namespace := newKeyWithOperator(t).Namespace
	createServer(t, namespace, "web", v1beta1.MCPServerSpec{})
	eventually(t, "the MCPServer to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, namespace) })
	before := podUIDs(t, namespace)

	mark, err := theCluster.AuditMark()
	must(t, err)
	deleteWithoutGarbageCollector(t, namespace)
	must(t, hold(t.Context(), quietTime))
	requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == namespace && request.Resource == "statefulsets" {
			t.Errorf("the operator did not wait: %s", request)
		}
	}

	must(t, theCluster.StartAgain(t.Context(), controlplane.KubeControllerManager))
	eventually(t, "the MCPServer to be Ready with another pod", func(ctx context.Context) (string, bool) {
		state, ready := areReady(ctx, namespace)
		return state, ready && !maps.Equal(before, podUIDs(t, namespace))
	})
}

// TestDeclarationWhileTheStatefulSetWaits verifies that a declaration is carried out if a user removes it and declares the same number again
// while the operator waits to recreate the StatefulSet.
func TestDeclarationWhileTheStatefulSetWaits(t *testing.T) {
	key := newKeyWithOperator(t)
	namespace := key.Namespace
	status := func(ctx context.Context) v1beta1.MCPServerStatus {
		server := &v1beta1.MCPServer{}
		must(t, theCluster.Client.Get(ctx, key, server))
		return server.Status
	}
	declare := func(replicas string) {
		server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":`+replicas+`}}`))
		must(t, theCluster.Client.Patch(t.Context(), server, patch))
	}
	createServer(t, namespace, "web", v1beta1.MCPServerSpec{Replicas: ptr.To[int32](3)})
	eventually(t, "3 pods", func(ctx context.Context) (string, bool) { return status(ctx).Ready, status(ctx).Ready == "3/3" })
	must(t, scale.Requests{Client: theCluster.Client, Key: key}.PatchScale(t.Context(), 2))
	eventually(t, "2 pods", func(ctx context.Context) (string, bool) { return status(ctx).Ready, status(ctx).Ready == "2/2" })

	deleteWithoutGarbageCollector(t, namespace)
	declare("null")
	eventually(t, "the removal of the declaration to be in the status", func(ctx context.Context) (string, bool) {
		return fmt.Sprint(status(ctx).Scale), status(ctx).Scale.DeclaredReplicas == nil
	})
	declare("3")
	must(t, theCluster.StartAgain(t.Context(), controlplane.KubeControllerManager))
	eventually(t, "3 pods", func(ctx context.Context) (string, bool) { return status(ctx).Ready, status(ctx).Ready == "3/3" })
}

// TestStrayPodsKeepTheirAccount verifies that the operator keeps a ServiceAccount that is no longer needed while pods of a deleted StatefulSet
// use it.
func TestStrayPodsKeepTheirAccount(t *testing.T) {
	key := newKeyWithOperator(t)
	createServer(t, key.Namespace, key.Name, v1beta1.MCPServerSpec{})
	eventually(t, "the MCPServer to be Ready", func(ctx context.Context) (string, bool) { return areReady(ctx, key.Namespace) })
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "mcp-web"}}

	deleteWithoutGarbageCollector(t, key.Namespace)
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	must(t, theCluster.Client.Patch(t.Context(), server, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"serviceAccount":"default"}}`))))
	eventually(t, "the operator to observe the change", func(ctx context.Context) (string, bool) {
		must(t, theCluster.Client.Get(ctx, key, server))
		return fmt.Sprint(server.Status.ObservedGeneration), server.Status.ObservedGeneration == server.Generation
	})
	must(t, theCluster.Client.Get(t.Context(), client.ObjectKeyFromObject(account), account))

	must(t, theCluster.StartAgain(t.Context(), controlplane.KubeControllerManager))
	eventually(t, "the ServiceAccount to be deleted", func(ctx context.Context) (string, bool) {
		err := theCluster.Client.Get(ctx, client.ObjectKeyFromObject(account), account)
		must(t, client.IgnoreNotFound(err))
		return "", err != nil
	})
}

// newKeyWithOperator starts an operator for a test. It returns the name of the test's MCPServer in a new namespace.
func newKeyWithOperator(t *testing.T) client.ObjectKey {
	t.Helper()
	operator, err := theCluster.StartOperator(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, operator.Stop()) })
	return client.ObjectKey{Namespace: newNamespace(t), Name: "web"}
}

// deleteWithoutGarbageCollector kills kube-controller-manager, deletes the StatefulSet web, and waits until the operator says what it waits for.
// The caller must start kube-controller-manager again.
func deleteWithoutGarbageCollector(t *testing.T, namespace string) {
	t.Helper()
	must(t, theCluster.Kill(controlplane.KubeControllerManager))
	t.Cleanup(func() { must(t, theCluster.StartEnded(context.Background())) }) // for the following tests, if this test fails
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
	must(t, theCluster.Client.Delete(t.Context(), set, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	eventually(t, "the MCPServer to say what it waits for", func(ctx context.Context) (string, bool) {
		server := &v1beta1.MCPServer{}
		must(t, theCluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "web"}, server))
		message := apimeta.FindStatusCondition(server.Status.Conditions, v1beta1.ConditionReady).Message
		return message, strings.Contains(message, "such as web-0. If it does not, run: kubectl -n "+namespace+" delete pod -l")
	})
}

// runRecipe runs the command of docs/reliability.md that makes an MCPServer the owner of its children, in bash.
func runRecipe(t *testing.T, namespace, server string) {
	t.Helper()
	docs, err := os.ReadFile("../../docs/reliability.md")
	must(t, err)
	var recipe strings.Builder
	for line := range strings.Lines(string(docs)) {
		if code, isCode := strings.CutPrefix(line, "    "); isCode {
			recipe.WriteString(code)
		} else if strings.Contains(recipe.String(), "done\n") {
			break // other code follows
		}
	}
	script := strings.NewReplacer("NAME", server, "kubectl ", theCluster.KubectlPath()+" -n "+namespace+" ").Replace(recipe.String())
	command := exec.CommandContext(t.Context(), "bash", "-e", "-c", script)
	command.Env = append(os.Environ(), "KUBECONFIG="+theCluster.Kubeconfig)
	out, err := command.CombinedOutput()
	t.Logf("%s\n%s", script, out)
	must(t, err)
	if !strings.Contains(string(out), "networkpolicy") {
		t.Error("the recipe has not patched the NetworkPolicy")
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
