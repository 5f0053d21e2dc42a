package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// TestAProxyThatStartsDuringATakeoverStopsIt: the proxy does not run when the takeover looks, and runs when it is about to change objects.
func TestAProxyThatStartsDuringATakeoverStopsIt(t *testing.T) {
	ctx := t.Context()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	key := types.NamespacedName{Namespace: "team", Name: "web"}
	meta := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "1"}
	server := &v1beta1.MCPServer{ObjectMeta: meta}
	server.Finalizers = []string{v1beta1.ToolHiveFinalizer}
	owned := meta
	owned.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(server, v1beta1.GroupVersion.WithKind("MCPServer"))}
	proxy := &appsv1.Deployment{ObjectMeta: owned, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](0)}}
	set := &appsv1.StatefulSet{ObjectMeta: meta}
	set.Labels = map[string]string{"toolhive": "true", observe.ToolHiveNameLabel: "web"}
	looks := 0
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(server, proxy, set).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			err := c.Get(ctx, key, object, options...)
			if deployment, is := object.(*appsv1.Deployment); is && err == nil {
				if looks++; looks > 1 {
					deployment.Spec.Replicas = ptr.To[int32](1)
				}
			}
			return err
		},
	}).Build()
	api := httptest.NewServer(http.NotFoundHandler()) // what the operator then does stays unknown
	defer api.Close()
	connection := &connection{WithWatch: c, config: &rest.Config{Host: api.URL}}

	_, running, err := connection.takeOverOne(ctx, &storedServer{NamespacedName: key}, takeoverOptions{})
	if running != nil || err == nil || !strings.Contains(err.Error(), "kubectl -n team scale deployment web --replicas=0") {
		t.Fatalf("got %v, %v", running, err)
	}
	if err := c.Get(ctx, key, set); err != nil || len(set.OwnerReferences) > 0 {
		t.Errorf("the StatefulSet has %v, %v", set.OwnerReferences, err)
	}
	if err := c.Get(ctx, key, server); err != nil || len(server.Finalizers) != 1 {
		t.Errorf("the MCPServer has %v, %v", server.Finalizers, err)
	}
}

// TestWhatBelongsToTheGraphOfToolHive: a takeover gives nothing to the MCPServer that somebody else has made under the same name.
func TestWhatBelongsToTheGraphOfToolHive(t *testing.T) {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "server"}}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "set", Labels: map[string]string{"toolhive": "true", "toolhive-name": "web"}}}
	controlled := func(kind string, uid types.UID) metav1.ObjectMeta {
		return metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: kind, UID: uid, Controller: ptr.To(true)}}}
	}
	writtenBy := func(manager string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Labels: labels, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: manager}}}
	}
	for name, test := range map[string]struct {
		meta metav1.ObjectMeta
		want bool
	}{
		"of the MCPServer":                        {controlled("MCPServer", "server"), true},
		"of the StatefulSet":                      {controlled("StatefulSet", "set"), true},
		"of another controller":                   {controlled("Deployment", "other"), false},
		"written by the proxy":                    {writtenBy("toolhive-container-manager", nil), true},
		"written by the operator":                 {writtenBy("thv-operator", nil), true},
		"written by somebody else":                {writtenBy("helm", nil), false},
		"with the labels, restored from a backup": {writtenBy("velero", map[string]string{"toolhive": "true", "toolhive-name": "web"}), true},
		"with a name alone":                       {writtenBy("helm", map[string]string{"toolhive-name": "web"}), false},
		"of another MCPServer":                    {writtenBy("toolhive-container-manager", map[string]string{"toolhive": "true", "toolhive-name": "other"}), false},
		"without a trace":                         {metav1.ObjectMeta{}, false},
	} {
		g := &graph{server: server, set: set}
		if got := g.isOfToolHive(&corev1.Service{ObjectMeta: test.meta}); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	foreign := &appsv1.StatefulSet{ObjectMeta: controlled("Other", "other")}
	foreign.UID = "set"
	if g := (&graph{server: server, set: foreign}); g.isOfToolHive(&corev1.Service{ObjectMeta: controlled("StatefulSet", "set")}) {
		t.Error("a Service of a StatefulSet of somebody else belongs to the graph")
	}
}

// TestATakeoverSaysWhoRestartsThePods: with OnDelete, nobody does until a pod is deleted.
func TestATakeoverSaysWhoRestartsThePods(t *testing.T) {
	fields := []string{`.spec.template.spec.containers[name="mcp"].env[name="MCP_PORT"]`}
	for _, onDelete := range []bool{false, true} {
		text := takeoverText(&takeover{Server: "team/web", Effects: &effects{Restarts: fields, OnDelete: onDelete}}, takeoverOptions{dryRun: true}, false)
		if restarts := strings.Contains(text, "restarts the pods"); restarts == onDelete || !strings.Contains(text, fields[0]) || strings.Contains(text, "when you delete it") != onDelete {
			t.Errorf("OnDelete %t: %s", onDelete, text)
		}
	}
}
