package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// fleetNamespace is the namespace of the MCPServers, and fleetName the name of the i-th.
const fleetNamespace = "team"

func fleetName(i int) string { return fmt.Sprintf("server-%08d", i) }

// fleetSettings are those of a cluster with IPv4 Services. The pods have the runner, as they do by default.
var fleetSettings = plan.Settings{Cluster: applyconfigs.Cluster{IPFamily: corev1.IPv4Protocol, RunnerImage: "registry.example/mcpserver-operator:1"}}

// managerOf returns a manager with the cache of the operator, which will have n copies of some objects. The function change, if there is one, changes
// the copies of the i-th MCPServer. There is no API server: a write is an error.
func managerOf(t testing.TB, objects []client.Object, n int, change func(i int, object runtime.Object)) ctrl.Manager {
	t.Helper()
	scheme := fleetScheme(t)
	mapper := apimeta.NewDefaultRESTMapper(nil)
	for gvk := range scheme.AllKnownTypes() {
		mapper.Add(gvk, apimeta.RESTScopeNamespace)
	}
	mgr, err := ctrl.NewManager(&rest.Config{Host: "https://127.0.0.1:1"}, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller:     config.Controller{SkipNameValidation: ptr.To(true)}, // another test, or a repetition, has a controller of the same name
		MapperProvider: func(*rest.Config, *http.Client) (apimeta.RESTMapper, error) { return mapper, nil },
		Cache: cache.Options{
			ByObject: observe.CachedObjects(),
			NewInformer: func(_ toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
				return toolscache.NewSharedIndexInformer(copies(t, kind, objects, n, change), kind, resync, indexers)
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// listWatch lists objects, and never reports a change.
type listWatch struct{ toolscache.ListWatch }

// IsWatchListSemanticsUnSupported makes the cache send a list before its watch.
func (*listWatch) IsWatchListSemanticsUnSupported() bool { return true }

// copies lists n copies of each object of a kind, with other names and UIDs.
func copies(t testing.TB, kind runtime.Object, objects []client.Object, n int, change func(i int, object runtime.Object)) toolscache.ListerWatcher {
	t.Helper()
	var templates []string
	for _, object := range objects {
		if reflect.TypeOf(object) == reflect.TypeOf(kind) {
			template, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			templates = append(templates, string(template))
		}
	}
	first := templateRecord(t, 0)
	return &listWatch{toolscache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			list := &corev1.List{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
			for i := range n {
				of := strings.NewReplacer(fleetName(0), fleetName(i), fleetUID(0), fleetUID(i), first, templateRecord(t, i))
				for _, template := range templates {
					object := reflect.New(reflect.TypeOf(kind).Elem()).Interface().(runtime.Object)
					if err := json.Unmarshal([]byte(of.Replace(template)), object); err != nil {
						return nil, err
					}
					if change != nil {
						change(i, object)
					}
					list.Items = append(list.Items, runtime.RawExtension{Object: object})
				}
			}
			return list, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil },
	}}
}

// fleetUID is the end of the UIDs of the i-th MCPServer and its objects.
func fleetUID(i int) string { return fmt.Sprintf("4a5b-%012d", i) }

// templateRecord returns the record of the pod template of the i-th MCPServer, which has a digest.
func templateRecord(t testing.TB, i int) string {
	t.Helper()
	server := fleetServer(i)
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		t.Fatal(err)
	}
	set, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, fleetSettings.Cluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set.Annotations[v1beta1.PodTemplateAnnotation]
}

func fleetServer(i int) *v1beta1.MCPServer {
	return &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fleetNamespace, Name: fleetName(i), UID: types.UID("00000000-0000-" + fleetUID(i)), Generation: 1,
			Labels: map[string]string{"team": "bench"},
		},
		Spec: v1beta1.MCPServerSpec{
			Image: "registry.example/mcp/time:1.0", Transport: v1beta1.TransportStreamableHTTP, Args: []string{"--verbose"},
			Env: []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "REGION", Value: "north"}},
		},
	}
}

// readyServer returns an MCPServer that is Ready, with its children and its pod.
func readyServer(t testing.TB) []client.Object {
	t.Helper()
	builder := fake.NewClientBuilder().WithScheme(fleetScheme(t)).WithReturnManagedFields().WithStatusSubresource(&v1beta1.MCPServer{}, &appsv1.StatefulSet{})
	if err := errors.Join(observe.IndexAutoscalers(t.Context(), indexed{builder: builder}), observe.IndexPods(t.Context(), indexed{builder: builder})); err != nil {
		t.Fatal(err)
	}
	server := fleetServer(0)
	c := builder.WithObjects(server).Build()
	reconciler := &Reconciler{Client: c, APIReader: c, Recorder: events.NewFakeRecorder(100), Settings: fleetSettings, Now: time.Now}
	pass := func() {
		if _, err := reconciler.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(server)}); err != nil {
			t.Fatal(err)
		}
	}
	pass()
	set := &appsv1.StatefulSet{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(server), set); err != nil {
		t.Fatal(err)
	}
	set.Status = appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1, CurrentReplicas: 1, UpdatedReplicas: 1,
		CurrentRevision: set.Name + "-5d8f9c7b6", UpdateRevision: set.Name + "-5d8f9c7b6", CollisionCount: ptr.To[int32](0),
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: set.Name + "-0", UID: types.UID("00000000-0001-" + fleetUID(0)), Labels: set.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
		},
		Spec: *set.Spec.Template.Spec.DeepCopy(),
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		}},
	}
	pod.Spec.NodeName = "node-1"
	if err := errors.Join(c.Status().Update(t.Context(), set, client.FieldOwner("kube-controller-manager")), c.Create(t.Context(), pod)); err != nil {
		t.Fatal(err)
	}
	pass()
	pass()
	var objects []client.Object
	for kind := range observe.CachedObjects() {
		gvk, err := c.GroupVersionKindFor(kind)
		if err != nil {
			t.Fatal(err)
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := c.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			object := kind.DeepCopyObject().(client.Object)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, object); err != nil {
				t.Fatal(err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// indexed is a manager that only adds indexes to a fake client.
type indexed struct {
	ctrl.Manager
	builder *fake.ClientBuilder
}

func (i indexed) GetFieldIndexer() client.FieldIndexer { return i }

// IndexField implements client.FieldIndexer.
func (i indexed) IndexField(_ context.Context, kind client.Object, field string, of client.IndexerFunc) error {
	i.builder.WithIndex(kind, field, of)
	return nil
}

func fleetScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return scheme
}
