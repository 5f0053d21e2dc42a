package plan

import (
	"hash/maphash"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// Converged is a cache of the children that matched their MCPServer. The comparison is most of the work of a pass, and in most passes at
// most one child has changed since the last pass. After a restart, the operator compares all children once.
type Converged struct {
	children observe.PerServer[map[observe.Child]comparison]
	// built is the result of the last comparison of the StatefulSet.
	built observe.PerServer[built]
}

// built is the result for a StatefulSet, which is cached if it matches its MCPServer. Building its apply configuration costs as much as the rest of a
// pass, and much more if the pod template is large.
type built struct {
	// from is the digest of the inputs of the apply configuration: see inputsDigest.
	from uint64
	// digest is the digest of the apply configuration, and content that without the scale.
	digest, content uint64
	// update is the new pod template that is not applied; nil if there is none.
	update *Update
	// lacksCommand is Plan.LacksCommand.
	lacksCommand bool
}

// comparison identifies the compared objects.
type comparison struct {
	uid     types.UID
	version string // the resourceVersion of the child
	digest  uint64 // of the apply configuration
	// unattainable is true if the child cannot match the MCPServer, because the API server drops fields that it does not know, or an
	// admission webhook rewrites them. The child is then identified by written instead of its resourceVersion: a new status is no reason to
	// apply again.
	unattainable bool
	written      uint64 // see writtenDigest
}

func (c *Converged) remember(server *v1beta1.MCPServer, child observe.Child, live client.Object, digest uint64) {
	c.set(server, child, comparison{uid: live.GetUID(), version: live.GetResourceVersion(), digest: digest})
}

func (c *Converged) unattainable(server *v1beta1.MCPServer, child observe.Child, live client.Object, digest uint64) {
	c.set(server, child, comparison{uid: live.GetUID(), written: writtenDigest(live), digest: digest, unattainable: true})
}

func (c *Converged) set(server *v1beta1.MCPServer, child observe.Child, is comparison) {
	children, found := c.children.Get(server)
	if !found {
		children = map[observe.Child]comparison{}
		c.children.Set(server, children)
	}
	children[child] = is
}

// find returns the last comparison of a child if neither the child nor its apply configuration has changed since.
func (c *Converged) find(server *v1beta1.MCPServer, child observe.Child, live client.Object, digest uint64) (last comparison, found bool) {
	children, _ := c.children.Get(server)
	last, found = children[child]
	if !found || last.uid != live.GetUID() || last.digest != digest {
		return last, false
	}
	if last.unattainable {
		return last, last.written == writtenDigest(live)
	}
	return last, last.version == live.GetResourceVersion()
}

// writtenDigest identifies what was written to an object besides its status. Each write of a spec or of metadata is a new generation, or shows in
// managedFields.
func writtenDigest(live client.Object) uint64 {
	var hash maphash.Hash
	hash.SetSeed(digestSeed)
	maphash.WriteComparable(&hash, live.GetGeneration())
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "status" {
			continue
		}
		maphash.WriteComparable(&hash, ownership.ManagerOf(entry))
		maphash.WriteComparable(&hash, ptr.Deref(entry.Time, metav1.Time{}).Unix())
		if entry.FieldsV1 != nil {
			maphash.WriteComparable(&hash, entry.FieldsV1.GetRawString())
		}
	}
	return hash.Sum64()
}

// findBuilt returns the cached result for a StatefulSet, if neither the StatefulSet nor the inputs of its apply configuration have changed.
func (c *Converged) findBuilt(server *v1beta1.MCPServer, child observe.Child, live client.Object, from uint64) (built, bool) {
	is, _ := c.built.Get(server)
	if is.from != from || !c.isStill(server, child, live, is.digest) {
		return built{}, false
	}
	return is, true
}

// isStill reports whether a child matched its apply configuration, as far as the API server allows, and neither has changed since.
func (c *Converged) isStill(server *v1beta1.MCPServer, child observe.Child, live client.Object, digest uint64) bool {
	_, found := c.find(server, child, live, digest)
	return found
}

// isUnattainable reports whether the last apply changed nothing, and neither the apply configuration nor the child has changed since.
func (c *Converged) isUnattainable(server *v1beta1.MCPServer, child observe.Child, live client.Object, digest uint64) bool {
	last, found := c.find(server, child, live, digest)
	return found && last.unattainable
}

func (c *Converged) forget(server types.NamespacedName) {
	c.children.Forget(server)
	c.built.Forget(server)
}
