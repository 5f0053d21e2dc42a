package reconcile

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
)

// settledChildren remembers which children there are, and which of them were seen to be as asked for. To find that out is
// most of the work of a pass, and most passes look at children of which none or one has changed since. It is kept in memory:
// an operator that restarts looks at everything once.
type settledChildren struct {
	mutex sync.Mutex
	of    map[types.NamespacedName]childrenOf
}

// childrenOf are the children of one MCPServer: not of another one of its name.
type childrenOf struct {
	server   types.UID
	children map[childKey]settledChild
}

// childKey tells the children of an MCPServer from each other.
type childKey struct {
	kind reflect.Type
	name string
}

func keyOf(child client.Object) childKey {
	return childKey{kind: reflect.TypeOf(child), name: child.GetName()}
}

// settledChild says what was compared when a child was seen to be as asked for; it is empty for one that was only created.
type settledChild struct {
	uid types.UID
	// generation is that of the MCPServer. What the child lacks later in the same one, somebody has removed: it is neither
	// new in the MCPServer nor in a new operator.
	generation int64
	// version is the resourceVersion of the child.
	version string
	// asked is the digest of the apply configuration.
	asked uint64
	// dropped says that the child is not as asked for, and cannot be: the API server drops what it does not have, such as
	// maxUnavailable before Kubernetes 1.37, and applying again changes nothing. Nobody has removed it then.
	dropped bool
}

var digestSeed = maphash.MakeSeed()

// digestOf tells apply configurations from each other.
func digestOf(want runtime.ApplyConfiguration) (uint64, error) {
	content, err := json.Marshal(want)
	if err != nil {
		return 0, fmt.Errorf("writing the apply configuration: %w", err)
	}
	return maphash.Bytes(digestSeed, content), nil
}

// remember remembers that a child is as its MCPServer asks for.
func (s *settledChildren) remember(server *v1alpha1.MCPServer, child client.Object, asked uint64) {
	s.set(server, keyOf(child), settledChild{
		uid: child.GetUID(), generation: server.Generation, version: child.GetResourceVersion(), asked: asked,
	})
}

// dropped remembers that it changes nothing to apply to a child what its MCPServer asks for. It leaves the generation out, because the
// child never was as asked for: see wasEver.
func (s *settledChildren) dropped(server *v1alpha1.MCPServer, child client.Object, asked uint64) {
	s.set(server, keyOf(child), settledChild{uid: child.GetUID(), version: child.GetResourceVersion(), asked: asked, dropped: true})
}

// created remembers a child that the operator has just created.
func (s *settledChildren) created(server *v1alpha1.MCPServer, child childKey) {
	s.set(server, child, settledChild{})
}

func (s *settledChildren) set(server *v1alpha1.MCPServer, child childKey, is settledChild) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := client.ObjectKeyFromObject(server)
	if s.of == nil {
		s.of = map[types.NamespacedName]childrenOf{}
	}
	if s.of[key].server != server.UID || s.of[key].children == nil {
		s.of[key] = childrenOf{server: server.UID, children: map[childKey]settledChild{}}
	}
	s.of[key].children[child] = is
}

func (s *settledChildren) get(server *v1alpha1.MCPServer, child childKey) (is settledChild, found bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	of := s.of[client.ObjectKeyFromObject(server)]
	if of.server != server.UID {
		return settledChild{}, false
	}
	is, found = of.children[child]
	return is, found
}

// wasThere reports whether the operator has created a child, or seen it as asked for. A cache that does not show it may only
// lag.
func (s *settledChildren) wasThere(server *v1alpha1.MCPServer, child childKey) bool {
	_, was := s.get(server, child)
	return was
}

// isStill reports whether a child was seen to be as asked for, and neither it nor what is asked for has changed since.
func (s *settledChildren) isStill(server *v1alpha1.MCPServer, child client.Object, asked uint64) bool {
	last, seen := s.find(server, child)
	return seen && !last.dropped && last.version == child.GetResourceVersion() && last.asked == asked
}

// isDropped reports whether applying what is asked for changed nothing, and neither that nor the child has changed since.
func (s *settledChildren) isDropped(server *v1alpha1.MCPServer, child client.Object, asked uint64) bool {
	last, seen := s.find(server, child)
	return seen && last.dropped && last.version == child.GetResourceVersion() && last.asked == asked
}

// wasEver reports whether a child was seen to be as its MCPServer asks for in the present generation.
func (s *settledChildren) wasEver(server *v1alpha1.MCPServer, child client.Object) bool {
	last, seen := s.find(server, child)
	return seen && last.generation == server.Generation
}

func (s *settledChildren) find(server *v1alpha1.MCPServer, child client.Object) (settledChild, bool) {
	last, seen := s.get(server, keyOf(child))
	return last, seen && last.uid == child.GetUID()
}

// forget forgets an MCPServer that is gone.
func (s *settledChildren) forget(server types.NamespacedName) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.of, server)
}
