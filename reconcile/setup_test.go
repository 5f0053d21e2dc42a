package reconcile

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"mcpserver-operator/crd/v1beta1"
)

// TestAMissedEditIsCarriedOutFirst verifies that the first pass of an operator that starts is over the one MCPServer of 200 that was edited while no
// operator ran.
func TestAMissedEditIsCarriedOutFirst(t *testing.T) {
	const edited = 150
	mgr := managerOf(t, readyServer(t), 200, func(i int, object runtime.Object) {
		if server, isServer := object.(*v1beta1.MCPServer); isServer && i == edited {
			server.Generation++
		}
	})
	passes := &passRecorder{Client: mgr.GetClient()}
	reconciler := &Reconciler{
		Client: passes, APIReader: mgr.GetAPIReader(), Recorder: &events.FakeRecorder{}, Settings: fleetSettings, Now: time.Now,
	}
	if err := reconciler.SetupWithManager(t.Context(), mgr, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { metrics.Registry.Unregister(collector{cache: mgr.GetClient()}) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return len(passes.made()) > 10, nil
	})
	stop()
	if err != nil {
		t.Errorf("waiting for passes: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	made := passes.made()
	if at := slices.Index(made, fleetName(edited)); at < 0 || at > 1 { // two workers start at the same time
		t.Errorf("the first passes are over %q, and not over %s", made[:min(len(made), 5)], fleetName(edited))
	}
}

// passRecorder records the MCPServers of passes: each pass reads its MCPServer first.
type passRecorder struct {
	client.Client
	mutex sync.Mutex
	names []string
}

func (r *passRecorder) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, isServer := object.(*v1beta1.MCPServer); isServer {
		r.mutex.Lock()
		r.names = append(r.names, key.Name)
		r.mutex.Unlock()
	}
	return r.Client.Get(ctx, key, object, options...)
}

func (r *passRecorder) made() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.names)
}
