package reconcile

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mcpserver-operator/reconcile/registry"
	"mcpserver-operator/reconcile/status"
)

// images looks up images for MCPServers in the background, and requests a pass over an MCPServer when there is a result for it.
type images struct {
	lookups *registry.Lookups

	mutex sync.Mutex
	// asked has the image for which an MCPServer waits, and waiting the MCPServers that wait for an image.
	asked   map[types.NamespacedName]string
	waiting map[string]map[types.NamespacedName]bool
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
}

func newImages(read func(context.Context, string) (registry.Image, error)) *images {
	i := &images{asked: map[types.NamespacedName]string{}, waiting: map[string]map[types.NamespacedName]bool{}}
	i.lookups = registry.NewLookups(logged(read), i.changed, registry.Limits{})
	return i
}

// logged logs a look-up that fails. The status of an MCPServer does not always have the error: if its pods were built with the image before, a change
// of its pods is carried out with what is recorded.
func logged(read func(context.Context, string) (registry.Image, error)) func(context.Context, string) (registry.Image, error) {
	return func(ctx context.Context, image string) (registry.Image, error) {
		found, err := read(ctx, image)
		if err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Info("Cannot look up an image", "image", status.Bounded(image, mostLogged), "reason", status.Bounded(err.Error(), mostLogged))
		}
		return found, err
	}
}

// Start implements manager.Runnable.
func (i *images) Start(ctx context.Context) error { return i.lookups.Start(ctx) }

// Get implements observe.Images.
func (i *images) Get(server client.ObjectKey, image string) (found registry.Image, known bool, err error) {
	i.mutex.Lock()
	i.forget(server)
	if i.waiting[image] == nil {
		i.waiting[image] = map[types.NamespacedName]bool{}
	}
	i.asked[server], i.waiting[image][server] = image, true
	i.mutex.Unlock()
	return i.lookups.Get(image)
}

// Forget removes a deleted MCPServer.
func (i *images) Forget(server client.ObjectKey) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.forget(server)
}

func (i *images) forget(server client.ObjectKey) {
	image := i.asked[server]
	delete(i.asked, server)
	if delete(i.waiting[image], server); len(i.waiting[image]) == 0 {
		delete(i.waiting, image)
	}
}

// changed requests a pass over each MCPServer that waits for an image. The pass asks again if the MCPServer still needs it.
func (i *images) changed(image string) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	for server := range i.waiting[image] {
		delete(i.asked, server)
		if i.queue != nil {
			i.queue.Add(reconcile.Request{NamespacedName: server})
		}
	}
	delete(i.waiting, image)
}

// watch is a source of the controller, through which changed requests passes.
func (i *images) watch(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.queue = queue
	return nil
}

// imagesNow looks up images while the caller waits, for a preview.
type imagesNow func(image string) (registry.Image, error)

// Get implements observe.Images.
func (read imagesNow) Get(_ client.ObjectKey, image string) (found registry.Image, known bool, err error) {
	found, err = read(image)
	return found, true, err
}
