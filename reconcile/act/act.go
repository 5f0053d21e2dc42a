// Package act carries out plans. Only this package writes children and the status of MCPServers.
package act

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/plan"
)

// Writer carries out plans.
type Writer struct {
	// Client writes to the API server.
	Client client.Client
	// APIReader reads from the API server.
	APIReader client.Reader
	// Status writes the status.
	Status *StatusWriter

	confirmed confirmedServers
}

// Forget removes a deleted MCPServer.
func (w *Writer) Forget(server client.ObjectKey) {
	w.confirmed.forget(server)
	w.Status.Forget(server)
}

// CarryOut carries out a plan. Each write applies only to the version that was read. If a step fails, the other steps are still carried out.
// If the status of the MCPServer is written, server has the new status and resourceVersion afterwards.
func (w *Writer) CarryOut(ctx context.Context, server *v1beta1.MCPServer, p plan.Plan) plan.Results {
	results := make(plan.Results, 0, len(p.Steps))
	var outdated error
	if p.Applies() {
		outdated = w.confirmGeneration(ctx, server, p.StatefulSet().LiveObject())
	}
	for _, step := range p.Steps {
		result := plan.Result{Step: step}
		if outdated != nil && step.Writes() {
			result.Outcome, result.Err = outcomeOf(plan.Nothing, outdated)
			if results.Failed() {
				result.Err = nil // one error for all steps
			}
			results = append(results, result)
			continue
		}
		// Objects that refer to a child must be up to date before the child is deleted.
		if step.Action == plan.Delete && results.AreStale() {
			result.Outcome = plan.Stale
		} else {
			result.Outcome, result.Err = w.carryOut(ctx, server, step)
		}
		if set, isSet := step.Want.(*appsv1ac.StatefulSetApplyConfiguration); isSet && result.Outcome == plan.Written {
			w.confirmed.remember(server, set) // the apply has decoded the answer into it
		}
		results = append(results, result)
	}
	return results
}

func (w *Writer) carryOut(ctx context.Context, server *v1beta1.MCPServer, step plan.Step) (plan.Outcome, error) {
	if step.Action == plan.Invalid {
		return plan.Failed, step.Err
	}
	return outcomeOf(w.write(ctx, server, step))
}

// outcomeOf distinguishes a write that failed because of a stale cache from other failures.
func outcomeOf(outcome plan.Outcome, err error) (plan.Outcome, error) {
	switch {
	case IsStale(err):
		return plan.Stale, nil
	case err != nil:
		return plan.Failed, err
	default:
		return outcome, nil
	}
}

func (w *Writer) write(ctx context.Context, server *v1beta1.MCPServer, step plan.Step) (plan.Outcome, error) {
	if step.Confirm {
		if err := w.confirm(ctx, server); err != nil {
			return plan.Failed, err
		}
	}
	if step.ForgetDeclaration {
		status := *server.Status.DeepCopy()
		status.Scale.DeclaredReplicas = nil
		if err := w.Status.Write(ctx, server, status); err != nil {
			return plan.Failed, err
		}
	}
	switch step.Action {
	case plan.Create, plan.Apply:
		return w.apply(ctx, step)
	case plan.Migrate, plan.Repair, plan.Correct, plan.Release:
		if err := w.patch(ctx, step); err != nil {
			return plan.Failed, fmt.Errorf("patching %s (%s): %w", step.Child, step.Action, err)
		}
		return plan.Written, nil
	case plan.Delete:
		err := w.Client.Delete(ctx, step.Live, client.Preconditions{
			UID: ptr.To(step.Live.GetUID()), ResourceVersion: ptr.To(step.Live.GetResourceVersion()),
		})
		if client.IgnoreNotFound(err) != nil {
			return plan.Failed, fmt.Errorf("deleting %s, which is no longer wanted: %w", step.Child, err)
		}
		return plan.Written, nil
	default:
		return plan.Nothing, nil
	}
}

// confirmGeneration returns a conflict if the generation of the cached MCPServer is not current.
func (w *Writer) confirmGeneration(ctx context.Context, cached *v1beta1.MCPServer, set client.Object) error {
	if w.confirmed.has(cached, set) {
		return nil
	}
	current, err := w.current(ctx, cached)
	if err != nil {
		return err
	}
	if current.UID == cached.UID && current.Generation == cached.Generation {
		return nil
	}
	return staleCache(cached.Name)
}

// current reads the metadata of an MCPServer from the API server; it is empty if the MCPServer does not exist.
func (w *Writer) current(ctx context.Context, cached *v1beta1.MCPServer) (*metav1.PartialObjectMetadata, error) {
	current := &metav1.PartialObjectMetadata{}
	current.SetGroupVersionKind(v1beta1.GroupVersion.WithKind("MCPServer"))
	err := w.APIReader.Get(ctx, client.ObjectKeyFromObject(cached), current)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the MCPServer again: %w", err)
	}
	return current, nil
}

func staleCache(name string) error {
	return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the cache has another version of it"))
}

// confirm returns a conflict if the cached MCPServer, including its status, is not current. A change of the owner of the scale or of its
// record must not depend on the cache: after a change of the leader, the cache may be older than what was already carried out.
func (w *Writer) confirm(ctx context.Context, cached *v1beta1.MCPServer) error {
	current, err := w.current(ctx, cached)
	if err != nil {
		return err
	}
	if current.UID == cached.UID && current.ResourceVersion == cached.ResourceVersion {
		return nil
	}
	return staleCache(cached.Name)
}

// apply applies the configuration of a step, only to the version that was read. With a stale cache, the operator could claim a field that it
// must not claim, or drop a field that it still owns, which would reset the field.
func (w *Writer) apply(ctx context.Context, step plan.Step) (plan.Outcome, error) {
	err := w.Client.Apply(ctx, step.Want, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership)
	if err != nil {
		return plan.Failed, fmt.Errorf("applying %s: %w", step.Child, err)
	}
	// Apply has decoded the response into step.Want. The API server ignores a write that changes nothing.
	if step.Live != nil && versionOf(step.Want) == step.Live.GetResourceVersion() {
		return plan.Unchanged, nil
	}
	return plan.Written, nil
}

// versionOf returns the resourceVersion of an apply configuration.
func versionOf(applied runtime.ApplyConfiguration) string {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(applied)
	if err != nil {
		return ""
	}
	metadata, _ := content["metadata"].(map[string]any)
	version, _ := metadata["resourceVersion"].(string)
	return version
}

// patch sends the JSON patch of a step, which tests the resourceVersion of the live object.
func (w *Writer) patch(ctx context.Context, step plan.Step) error {
	body, err := json.Marshal(step.Patch)
	if err != nil {
		return fmt.Errorf("writing the patch: %w", err)
	}
	// Patch decodes the response into the object. The live object belongs to the cache.
	object, ok := step.Live.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is not an object", step.Live)
	}
	err = w.Client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(applyconfigs.FieldManager))
	if IsFailedTest(err) {
		return apierrors.NewConflict(schema.GroupResource{}, step.Name, err)
	}
	return err
}
