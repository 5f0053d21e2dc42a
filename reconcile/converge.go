package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/ownership"
)

// neverVersion is a resourceVersion that no object has: the store counts writes up from 1, and the first is older than
// any object. An apply that carries it creates an absent object and is refused with 409 by one that exists. It closes
// the gap between the look that found nothing and the apply that creates.
const neverVersion = "1"

// applyConfiguration is what all generated apply configurations have in common.
type applyConfiguration[C any] interface {
	runtime.ApplyConfiguration
	comparable
	WithUID(types.UID) C
	WithResourceVersion(string) C
	GetKind() *string
	GetName() *string
}

// liveObject is a pointer to a typed object; nil when it is absent.
type liveObject interface {
	client.Object
	comparable
}

// applyChild converges one child, unless it is someone else's, is not wanted, or is being deleted: then it comes back
// when it is gone.
func applyChild[C applyConfiguration[C], L liveObject](
	ctx context.Context, r *Reconciler, p *pass, want C, live L, extract func(L, string) (C, error),
) error {
	var none C
	var absent L
	if want == none || isGoing(live) || p.refused(*want.GetKind(), *want.GetName()) {
		return nil
	}
	if live != absent {
		if migrated, err := r.migrate(ctx, p, live); migrated || err != nil {
			return err
		}
	}
	wrote, err := converge(ctx, r, p, want, live, extract)
	p.wrote = p.wrote || wrote
	return err
}

// dropChild deletes a child that is no longer wanted: the very object that was seen to be ours, or none. What refers to it
// has to be seen to be carried out.
func dropChild[L liveObject](ctx context.Context, r *Reconciler, p *pass, wanted bool, live L) error {
	var absent L
	if wanted || live == absent || isGoing(live) || p.stale {
		return nil
	}
	if err := r.confirm(ctx, p.server); err != nil {
		return err
	}
	err := r.Client.Delete(ctx, live, client.Preconditions{
		UID: ptr.To(live.GetUID()), ResourceVersion: ptr.To(live.GetResourceVersion()),
	})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %T %q, which is no longer wanted: %w", live, live.GetName(), err)
	}
	p.wrote = true
	return nil
}

// isGoing reports whether an object is there and is being deleted.
func isGoing[L liveObject](live L) bool {
	var absent L
	return live != absent && !live.GetDeletionTimestamp().IsZero()
}

// converge applies want, unless what the operator owns in live is exactly that. The apply counts only for the very
// version that was looked at: were the operator to claim or drop a field on the word of a stale cache, it could take
// what it must not, and dropping a field that it still owns would reset it.
func converge[C applyConfiguration[C], L liveObject](
	ctx context.Context, r *Reconciler, p *pass, want C, live L, extract func(L, string) (C, error),
) (wrote bool, err error) {
	var absent L
	version := neverVersion
	asked, err := digestOf(want)
	if err != nil {
		return false, err
	}
	if live != absent {
		if isAsAskedFor(ctx, r, p, want, asked, live, extract) {
			return false, nil
		}
		version = live.GetResourceVersion()
		want.WithUID(live.GetUID())
	}
	want.WithResourceVersion(version)
	object := unstructuredOf(want)
	if _, err := applyconfigs.FieldsOf(object); err != nil {
		return false, &invalidSpecError{err}
	}
	var taken []takeover
	if live != absent {
		if taken, err = takeovers(object, live, r.settled.wasEver(p.server, live)); err != nil {
			return false, err
		}
		if p.backsOff(r.fights.next(live, taken, p.now), live, taken) {
			return false, nil
		}
	}
	if err := r.Client.Apply(ctx, want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership); err != nil {
		result := "error"
		if isStale(err) {
			result = "conflict"
		}
		applies.WithLabelValues(object.GetKind(), result).Inc()
		return false, fmt.Errorf("applying %s %q: %w", object.GetKind(), object.GetName(), err)
	}
	applies.WithLabelValues(object.GetKind(), "applied").Inc()
	if live == absent {
		r.settled.created(p.server, childKey{kind: reflect.TypeOf(live), name: *want.GetName()})
		return true, nil
	}
	// Apply has decoded the answer into want. The server drops a write that changes nothing.
	if unstructuredOf(want).GetResourceVersion() == version {
		r.settled.dropped(p.server, live, asked)
		return false, nil
	}
	r.fights.count(live, taken, p.now)
	r.recordTakeovers(p.server, object.GetKind(), live, taken)
	return true, nil
}

// isAsAskedFor reports whether what the operator owns in live is exactly what it asks for, as far as the API server lets it.
// Asked is the digest of want.
func isAsAskedFor[C applyConfiguration[C], L liveObject](
	ctx context.Context, r *Reconciler, p *pass, want C, asked uint64, live L, extract func(L, string) (C, error),
) bool {
	if r.settled.isDropped(p.server, live, asked) {
		return true
	}
	if !r.settled.isStill(p.server, live, asked) {
		owned, err := extract(live, applyconfigs.FieldManager)
		if err != nil {
			// Somebody wrote what the schema does not allow, such as one environment variable twice; the API server
			// applies to it all the same.
			logf.FromContext(ctx).V(1).Info("Cannot tell what the operator owns", "child", live.GetName(), "error", err)
			return false
		}
		if !equality.Semantic.DeepEqual(owned, want) {
			return false
		}
	}
	r.settled.remember(p.server, live, asked)
	return true
}

// unstructuredOf converts an apply configuration, of whose fields only a few have accessors that all kinds share.
func unstructuredOf(config runtime.ApplyConfiguration) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		return &unstructured.Unstructured{} // no generated apply configuration fails to convert
	}
	return &unstructured.Unstructured{Object: content}
}

// isStale reports whether err says that an object was not what the cache showed: an everyday outcome of optimistic
// concurrency, not a failure. An object that was deleted and created anew meanwhile fails the check of its UID, which
// the server reports as an invalid object.
func isStale(err error) bool {
	if apierrors.IsConflict(err) {
		return !isDenied(err)
	}
	return hasCause(err, func(cause metav1.StatusCause) bool { return cause.Field == "metadata.uid" })
}

// staleCache says that the cache is behind. It is a conflict like that of a write: see isStale.
func staleCache(name string) error {
	return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the cache holds another version of it"))
}

// isDenied reports whether err is the answer of an admission webhook, which may have any status code: to try again on fresh
// state helps only against the API server's own conflicts.
func isDenied(err error) bool {
	return strings.Contains(err.Error(), "admission webhook")
}

// patch sends a JSON patch that tests the resourceVersion of a live object.
func (r *Reconciler) patch(ctx context.Context, live client.Object, operations []ownership.Operation) error {
	body, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("writing the patch: %w", err)
	}
	// The patch decodes the answer into the object, which belongs to the cache.
	object, ok := live.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", live)
	}
	err = r.Client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(applyconfigs.FieldManager))
	if apierrors.IsInvalid(err) && !isDenied(err) && !hasCause(err, func(metav1.StatusCause) bool { return true }) {
		// A failed test is no 409; unlike the answer that an object is invalid, it has no cause.
		return apierrors.NewConflict(schema.GroupResource{}, live.GetName(), err)
	}
	return err
}

// hasCause reports whether err is an answer of the API server that an object is invalid, for such a cause.
func hasCause(err error, is func(metav1.StatusCause) bool) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, is)
}

// isTerminating reports whether err says that the namespace is being deleted.
func isTerminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
