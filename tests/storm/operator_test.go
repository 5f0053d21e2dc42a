package storm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// errCutOff is the error of each request of a crashed operator.
var errCutOff = errors.New("the operator crashed")

// operatorUnderTest is the reconciler of the product with the credentials of the operator. Its cache lags as the test requires. Its writes and
// its uncached reads go to the API server.
type operatorUnderTest struct {
	reconciler *reconcile.Reconciler
	recorder   *events.FakeRecorder
	events     []string // the reasons of the recorded events
	// The lag of the cache in this pass, and the last version that the cache has shown. A cache never goes back.
	lagSet, lagMCP     int
	shownSet, shownMCP int

	// failReads is the status code with which uncached reads fail. If 0, they do not fail.
	failReads int

	writes  atomic.Int32
	crashIn atomic.Int32 // number of writes until the crash; 0 for no crash
	crashed atomic.Bool
}

// newOperator returns an operator that remembers nothing, as after a start.
func newOperator(w *world) (*operatorUnderTest, error) {
	o := &operatorUnderTest{recorder: events.NewFakeRecorder(1000), shownSet: -1, shownMCP: -1}
	config := rest.CopyConfig(operatorConfig)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &meter{operator: o, next: next} })
	live, err := client.NewWithWatch(config, client.Options{Scheme: theCluster.Client.Scheme(), Mapper: theCluster.Client.RESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("making the operator's client: %w", err)
	}
	cached := interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			switch into := object.(type) {
			case *appsv1.StatefulSet:
				if version, found := w.sets.at(&o.shownSet, o.lagSet); found {
					return asCached(version, into)
				}
				return notFound(appsv1.SchemeGroupVersion.WithResource("statefulsets"), key)
			case *v1beta1.MCPServer:
				if version, found := w.servers.at(&o.shownMCP, o.lagMCP); found {
					return asCached(version, into)
				}
				return notFound(v1beta1.GroupVersion.WithResource("mcpservers"), key)
			default:
				return c.Get(ctx, key, object, opts...)
			}
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			switch list.(type) {
			case *autoscalingv2.HorizontalPodAutoscalerList, *corev1.PodList:
				return nil // no such object matters in a storm, and a live list cannot use the index of the cache
			}
			return c.List(ctx, list, opts...)
		},
	})
	reads := interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			if o.failReads != 0 {
				return apierrors.NewGenericServerResponse(o.failReads, "get", schema.GroupResource{}, key.Name, "the test says so", 0, false)
			}
			return c.Get(ctx, key, object, opts...)
		},
	})
	o.reconciler = &reconcile.Reconciler{Client: cached, APIReader: reads, Recorder: o.recorder, Settings: ipv4, Now: func() time.Time { return w.now }}
	return o, nil
}

// asCached stores in an object what the operator's cache keeps of a version of the object.
func asCached[O any, P interface {
	*O
	client.Object
	DeepCopy() P
}](version, into P) error {
	for kind, options := range observe.CachedObjects() {
		if reflect.TypeOf(kind) != reflect.TypeOf(version) {
			continue
		}
		held, err := options.Transform(version.DeepCopy())
		if err != nil {
			return fmt.Errorf("keeping %T in the cache: %w", version, err)
		}
		*into = *held.(P)
		return nil
	}
	return fmt.Errorf("the cache holds no %T", version)
}

func notFound(resource schema.GroupVersionResource, key client.ObjectKey) error {
	return apierrors.NewNotFound(resource.GroupResource(), key.Name)
}

// pass runs one pass with a cache that lags by the given number of events for each kind. It returns the number of writes.
func (o *operatorUnderTest) pass(ctx context.Context, w *world, lagMCP, lagSet int) (writes int, err error) {
	if err := errors.Join(w.sets.sync(ctx), w.servers.sync(ctx)); err != nil {
		return 0, err
	}
	o.lagMCP, o.lagSet = lagMCP, lagSet
	before := o.writes.Load()
	_, err = o.reconciler.Reconcile(ctx, ctrlreconcile.Request{NamespacedName: w.key})
	if o.crashed.Load() {
		err = errCutOff
	}
	for len(o.recorder.Events) > 0 {
		if fields := strings.Fields(<-o.recorder.Events); len(fields) > 1 {
			o.events = append(o.events, fields[1]) // TYPE REASON NOTE
		}
	}
	return int(o.writes.Load() - before), err
}

// passWithoutReads runs a pass with a fresh cache, in which all uncached reads fail.
func (o *operatorUnderTest) passWithoutReads(ctx context.Context, w *world, code int) error {
	o.failReads = code
	defer func() { o.failReads = 0 }()
	_, err := o.pass(ctx, w, 0, 0)
	return err
}

// meter counts the writes of an operator, and cuts the operator off after a number of writes. The last request reaches the API server, but its
// answer does not reach the operator. All later requests fail. A crash after a read need not be tested: it has the same effect as a crash after
// the preceding write.
type meter struct {
	operator *operatorUnderTest
	next     http.RoundTripper
}

func (m *meter) RoundTrip(request *http.Request) (*http.Response, error) {
	if m.operator.crashed.Load() {
		return nil, errCutOff
	}
	if request.Method != http.MethodGet {
		m.operator.writes.Add(1)
	}
	response, err := m.next.RoundTrip(request)
	if request.Method == http.MethodGet || m.operator.crashIn.Load() == 0 || m.operator.crashIn.Add(-1) > 0 {
		return response, err
	}
	m.operator.crashed.Store(true)
	if err == nil {
		_ = response.Body.Close()
	}
	return nil, errCutOff
}

// ipv4 contains the settings of an operator on the control plane of the tests.
var ipv4 = plan.Settings{Cluster: applyconfigs.Cluster{IPFamily: corev1.IPv4Protocol}}
