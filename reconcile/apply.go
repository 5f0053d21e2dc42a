package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// neverVersion is a resourceVersion that no object has: the store counts writes up from 1, and the first is older than
// any object. An apply that carries it creates an absent object and is refused with 409 by one that exists. It closes
// the gap between the look that found nothing and the apply that creates.
const neverVersion = "1"

// apply brings every child that is ours to what the MCPServer asks for. A child that cannot be written does not keep
// the others from being written. A child of which the cache shows another version is no error: the pass is stale.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	var failed []error
	for _, err := range []error{
		r.applyService(ctx, p, applyconfigs.HeadlessService(p.server), p.children.headlessService),
		r.applyService(ctx, p, applyconfigs.ClientService(p.server), p.children.clientService),
		r.applyStatefulSet(ctx, p),
	} {
		if isStale(err) {
			p.stale = true
		} else {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (r *Reconciler) applyService(
	ctx context.Context, p *pass, want *corev1ac.ServiceApplyConfiguration, live *corev1.Service,
) error {
	if p.refused("Service", *want.Name) || (live != nil && !live.DeletionTimestamp.IsZero()) {
		return nil
	}
	wrote, err := converge(ctx, r.Client, want, live, corev1ac.ExtractService)
	p.wrote = p.wrote || wrote
	return err
}

// applyStatefulSet carries out the verdict about the scale, and applies everything else with it.
func (r *Reconciler) applyStatefulSet(ctx context.Context, p *pass) error {
	want, live := applyconfigs.StatefulSet(p.server, p.verdict.Apply), p.children.statefulSet
	if p.refused("StatefulSet", *want.Name) {
		return nil
	}
	if live != nil && !live.DeletionTimestamp.IsZero() {
		return nil // it comes back when it is gone
	}
	if live == nil || p.verdict.writesScale() || recordDiffers(live, p.verdict.Apply.Declared) {
		if err := r.confirm(ctx, p.server); err != nil {
			return err
		}
	}
	var wrote bool
	var err error
	if p.verdict.Action == scaleRelease {
		// The apply that leaves the scale out comes with the next pass, when the claim is seen to be gone.
		wrote, err = true, r.release(ctx, live, p.server.Spec.Replicas == nil)
	} else {
		wrote, err = converge(ctx, r.Client, want, live, appsv1ac.ExtractStatefulSet)
	}
	if err != nil {
		return err
	}
	p.wrote = p.wrote || wrote
	p.wroteStatefulSet = wrote
	if !wrote || !p.verdict.writesScale() {
		return nil
	}
	logf.FromContext(ctx).Info("Carried out a decision about the scale", "action", p.verdict.Action, "reason", p.verdict.Reason)
	if p.server.Status.Scale == nil {
		r.recordScaleWrite(p, nil)
		return nil // the first one: there is nothing that could be forgotten
	}
	status := *p.server.Status.DeepCopy()
	status.Scale = scaleAfterWrite(p)
	r.recordScaleWrite(p, status.Scale)
	return r.writeStatus(ctx, p.server, status)
}

// recordDiffers reports whether an apply would change the annotation that records the declaration.
func recordDiffers(live *appsv1.StatefulSet, declared *int32) bool {
	record, recorded := live.Annotations[v1alpha1.DeclaredReplicasAnnotation]
	if declared == nil {
		return recorded
	}
	return record != strconv.FormatInt(int64(*declared), 10)
}

// confirm fails with a conflict when the MCPServer, its status included, is not what the cache shows. Who decides the
// scale, and the record of it, are not changed on the word of a cache: after a change of the leader it can be older than
// what was already carried out.
func (r *Reconciler) confirm(ctx context.Context, cached *v1alpha1.MCPServer) error {
	current := &v1alpha1.MCPServer{}
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(cached), current)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the MCPServer again: %w", err)
	}
	if current.UID == cached.UID && current.ResourceVersion == cached.ResourceVersion {
		return nil
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("mcpservers").GroupResource(), cached.Name,
		errors.New("the cache holds another version of it"))
}

// applyConfiguration is what all generated apply configurations have in common.
type applyConfiguration[C any] interface {
	runtime.ApplyConfiguration
	WithUID(types.UID) C
	WithResourceVersion(string) C
}

// liveObject is a pointer to a typed object; nil when it is absent.
type liveObject interface {
	client.Object
	comparable
}

// converge applies want, unless what the operator owns in live is exactly that. The apply counts only for the very
// version that was looked at: were the operator to claim or drop a field on the word of a stale cache, it could take
// what it must not, and dropping a field that it still owns would reset it.
func converge[C applyConfiguration[C], L liveObject](
	ctx context.Context, c client.Client, want C, live L, extract func(L, string) (C, error),
) (wrote bool, err error) {
	var absent L
	version := neverVersion
	if live != absent {
		owned, err := extract(live, applyconfigs.FieldManager)
		if err != nil {
			return false, fmt.Errorf("reading what the operator owns in %q: %w", live.GetName(), err)
		}
		if equality.Semantic.DeepEqual(owned, want) {
			return false, nil
		}
		version = live.GetResourceVersion()
		want.WithUID(live.GetUID())
	}
	want.WithResourceVersion(version)
	object := metadataOf(want)
	if err := c.Apply(ctx, want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership); err != nil {
		result := "error"
		if isStale(err) {
			result = "conflict"
		}
		applies.WithLabelValues(object.GetKind(), result).Inc()
		return false, fmt.Errorf("applying %s %q: %w", object.GetKind(), object.GetName(), err)
	}
	applies.WithLabelValues(object.GetKind(), "applied").Inc()
	// Apply has decoded the answer into want. The server drops a write that changes nothing.
	return metadataOf(want).GetResourceVersion() != version, nil
}

// release gives up the claim on the scale without touching its value. With annotation it also takes the record of the
// declaration away, which goes with the declaration.
func (r *Reconciler) release(ctx context.Context, set *appsv1.StatefulSet, annotation bool) error {
	paths := []fieldpath.Path{replicasPath}
	if annotation {
		paths = append(paths, annotationPath)
	}
	patch, err := ownership.Release(set, self, paths...)
	if err != nil {
		return err
	}
	if _, found := set.Annotations[v1alpha1.DeclaredReplicasAnnotation]; found && annotation {
		patch = append(patch, ownership.Operation{
			Op:   "remove",
			Path: "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.DeclaredReplicasAnnotation, "/", "~1"),
		})
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("writing the patch that releases the scale: %w", err)
	}
	// The patch decodes the answer into the object, which belongs to the cache.
	err = r.Client.Patch(ctx, set.DeepCopy(), client.RawPatch(types.JSONPatchType, body),
		client.FieldOwner(applyconfigs.FieldManager))
	if apierrors.IsInvalid(err) && !hasCause(err, func(metav1.StatusCause) bool { return true }) {
		// A failed test of a JSON patch is no 409; unlike an object that is invalid, it has no cause.
		err = apierrors.NewConflict(appsv1.Resource("statefulsets"), set.Name, err)
	}
	if err != nil {
		return fmt.Errorf("releasing the scale of StatefulSet %q: %w", set.Name, err)
	}
	return nil
}

// metadataOf reads the metadata of an apply configuration, which has no accessors that all kinds share.
func metadataOf(config runtime.ApplyConfiguration) *unstructured.Unstructured {
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
		return true
	}
	return hasCause(err, func(cause metav1.StatusCause) bool { return cause.Field == "metadata.uid" })
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
