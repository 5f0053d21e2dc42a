package plan

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
)

// Converged is a cache of which children were seen to be as asked for. To find that out is most of the work of a pass, and most passes
// look at children of which none or one has changed since. An operator that restarts looks at everything once.
type Converged struct {
	mutex sync.Mutex
	of    map[types.NamespacedName]convergedChildren
}

// convergedChildren are the children of one MCPServer: not of another one of its name.
type convergedChildren struct {
	server   types.UID
	children map[observe.Child]comparison
	// built is what the StatefulSet was compared with.
	built built
}

// built is what a pass found out about a StatefulSet that is as asked for. To build what is asked for costs as much as all else in a pass,
// and much more if the pod template is large.
type built struct {
	// from is the digest of what the StatefulSet was built from: see inputsDigest.
	from uint64
	// digest is the digest of the apply configuration.
	digest uint64
	// update is the pod template that is not applied; nil if there is none.
	update *Update
}

// comparison is what was compared.
type comparison struct {
	uid     types.UID
	version string // the resourceVersion of the child
	digest  uint64 // of the apply configuration
	// unattainable is true if the child is not as asked for, and cannot be: the API server drops what it does not have.
	unattainable bool
}

func (c *Converged) remember(server *v1alpha1.MCPServer, child observe.Child, live client.Object, digest uint64) {
	c.set(server, child, comparison{uid: live.GetUID(), version: live.GetResourceVersion(), digest: digest})
}

func (c *Converged) unattainable(server *v1alpha1.MCPServer, child observe.Child, live client.Object, digest uint64) {
	c.set(server, child, comparison{uid: live.GetUID(), version: live.GetResourceVersion(), digest: digest, unattainable: true})
}

func (c *Converged) set(server *v1alpha1.MCPServer, child observe.Child, is comparison) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	key := client.ObjectKeyFromObject(server)
	if c.of == nil {
		c.of = map[types.NamespacedName]convergedChildren{}
	}
	if c.of[key].server != server.UID || c.of[key].children == nil {
		c.of[key] = convergedChildren{server: server.UID, children: map[observe.Child]comparison{}, built: c.of[key].built}
	}
	c.of[key].children[child] = is
}

// find returns the last comparison of a child if neither the child nor what is asked for has changed since.
func (c *Converged) find(server *v1alpha1.MCPServer, child observe.Child, live client.Object, digest uint64) (last comparison, found bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	of := c.of[client.ObjectKeyFromObject(server)]
	if of.server != server.UID {
		return comparison{}, false
	}
	last, found = of.children[child]
	return last, found && last.uid == live.GetUID() && last.version == live.GetResourceVersion() && last.digest == digest
}

// rememberBuilt remembers what was found out about the StatefulSet of an MCPServer, of which the last comparison is remembered.
func (c *Converged) rememberBuilt(server *v1alpha1.MCPServer, is built) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	key := client.ObjectKeyFromObject(server)
	if of, found := c.of[key]; found && of.server == server.UID {
		of.built = is
		c.of[key] = of
	}
}

// findBuilt returns what was found out about a StatefulSet, if neither it nor what it is built from has changed since.
func (c *Converged) findBuilt(server *v1alpha1.MCPServer, child observe.Child, live client.Object, from uint64) (built, bool) {
	c.mutex.Lock()
	is := c.of[client.ObjectKeyFromObject(server)].built
	c.mutex.Unlock()
	if is.from != from || !c.isStill(server, child, live, is.digest) {
		return built{}, false
	}
	return is, true
}

// isStill reports whether a child was seen to be as asked for, as far as it can be, and neither it nor what is asked for has changed since.
func (c *Converged) isStill(server *v1alpha1.MCPServer, child observe.Child, live client.Object, digest uint64) bool {
	_, found := c.find(server, child, live, digest)
	return found
}

// isUnattainable reports whether applying what is asked for changed nothing, and neither that nor the child has changed since.
func (c *Converged) isUnattainable(server *v1alpha1.MCPServer, child observe.Child, live client.Object, digest uint64) bool {
	last, found := c.find(server, child, live, digest)
	return found && last.unattainable
}

func (c *Converged) forget(server types.NamespacedName) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.of, server)
}
