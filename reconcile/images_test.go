package reconcile

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/reconcile/registry"
)

// TestAResultRequestsPasses verifies that each MCPServer that waits for an image gets a pass when there is a result, and when a failed look-up can be
// repeated, and no other MCPServer.
func TestAResultRequestsPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute))
		defer queue.ShutDown()
		var failure error
		images := newImages(func(context.Context, string) (registry.Image, error) { return registry.Image{}, failure })
		if err := images.watch(t.Context(), queue); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- images.Start(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		ask := func(name, image string) {
			if _, _, err := images.Get(types.NamespacedName{Namespace: "team", Name: name}, image); err != nil && !errors.Is(err, registry.ErrUnavailable) {
				t.Error(err)
			}
		}
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for queue.Len() > 0 {
				request, _ := queue.Get()
				queue.Done(request)
				got = append(got, request.Name)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s: passes over %q, want %q", what, got, want)
			}
		}
		ask("a", "server:1")
		ask("b", "server:1")
		ask("c", "other:1")
		ask("c", "server:1")
		ask("deleted", "server:1")
		images.Forget(types.NamespacedName{Namespace: "team", Name: "deleted"})
		expect("a result", "a", "b", "c")

		failure = registry.ErrUnavailable
		ask("a", "down:1")
		expect("a failure", "a")
		ask("a", "down:1")
		time.Sleep(time.Hour) // time of the bubble
		expect("it can be repeated", "a")
		time.Sleep(time.Hour)
		expect("nobody asks any more")
		if len(images.asked) > 0 || len(images.waiting) > 0 {
			t.Errorf("left over: %v, %v", images.asked, images.waiting)
		}
	})
}
