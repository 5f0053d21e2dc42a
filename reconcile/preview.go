package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/pmezard/go-difflib/difflib"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

// mostPasses is more passes than any MCPServer needs until no step of its plan requires another pass.
const mostPasses = 5

// Preview prints what the next passes over an MCPServer would do to its children: each step of the plan with its reason, and a diff of each
// child that changes. It writes nothing to the API server. Use it before the operator takes over the MCPServers of another operator. Client must
// read from the API server, not from a cache. A dry run on the API server sets the default values of removed fields.
func (r *Reconciler) Preview(ctx context.Context, key client.ObjectKey, out io.Writer) error {
	r.once.Do(r.start)
	server := &v1beta1.MCPServer{}
	if err := r.Client.Get(ctx, key, server); err != nil {
		return fmt.Errorf("reading the MCPServer: %w", err)
	}
	if server.Spec.Suspend {
		if _, err := fmt.Fprintf(out, "MCPServer %q is suspended: the operator writes nothing until spec.suspend is removed. Then:\n", key); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
		server.Spec.Suspend = false
	}
	snapshot, err := r.reader.Planned(ctx, server, metav1.NewTime(r.Now()).Rfc3339Copy())
	if err != nil {
		return err
	}
	settings := r.Settings
	if settings.Cluster.IPFamily == "" {
		if settings.Cluster.IPFamily, err = familyOfNewService(ctx, r.Client, snapshot); err != nil {
			return err
		}
	}
	for range mostPasses {
		p := plan.Make(snapshot, scale.Decide(snapshot.ScaleInput()), settings, r.memory)
		next := snapshot
		for i := range p.Steps {
			step := &p.Steps[i]
			if _, err := fmt.Fprintf(out, "%s %s: %s\n", step.Action, step.Child, step.Reason); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
			if step.Err != nil {
				return step.Err
			}
			if !step.IsFirst() {
				if err := previewStep(ctx, r.Client, out, step); err != nil {
					return err
				}
				continue
			}
			patched, err := patched(step)
			if err != nil {
				return err
			}
			if next, err = next.With(patched); err != nil {
				return err
			}
		}
		if next == snapshot {
			return nil
		}
		snapshot = next
	}
	return fmt.Errorf("the plan for MCPServer %q still has steps after %d passes", key, mostPasses)
}

// familyOfNewService returns the IP family that a Service of the MCPServer would get. It is only used if no Service exists.
func familyOfNewService(ctx context.Context, c client.Client, s *observe.Snapshot) (corev1.IPFamily, error) {
	if s.Children.ClientService != nil || s.Children.HeadlessService != nil {
		return "", nil // its family is used
	}
	service := applyconfigs.ClientService(s.Server, s.Fixed)
	if err := c.Apply(ctx, service, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership, client.DryRunAll); err != nil {
		return "", fmt.Errorf("creating Service %q in a dry run, to find out its IP family: %w", *service.Name, err)
	}
	if len(service.Spec.IPFamilies) == 0 { // Apply has decoded the response into service
		return "", nil
	}
	return service.Spec.IPFamilies[0], nil
}

// patched returns a child after a step that patches it.
func patched(step *plan.Step) (client.Object, error) {
	before, err := json.Marshal(step.Live)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", step.Child, err)
	}
	operations, err := json.Marshal(step.Patch)
	if err != nil {
		return nil, fmt.Errorf("reading the patch of %s: %w", step.Child, err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		return nil, fmt.Errorf("reading the patch of %s: %w", step.Child, err)
	}
	after, err := patch.Apply(before)
	if err != nil {
		return nil, fmt.Errorf("patching %s: %w", step.Child, err)
	}
	object, isObject := reflect.New(reflect.TypeOf(step.Live).Elem()).Interface().(client.Object)
	if !isObject {
		return nil, fmt.Errorf("%T is not an object", step.Live)
	}
	if err := json.Unmarshal(after, object); err != nil {
		return nil, fmt.Errorf("reading %s after its patch: %w", step.Child, err)
	}
	return object, nil
}

// previewStep prints what a step changes in a child. It cannot use a dry run of the apply: if an earlier step patches the child, the apply is for a
// version that does not exist yet.
func previewStep(ctx context.Context, c client.Client, out io.Writer, step *plan.Step) error {
	if !step.Writes() {
		return nil
	}
	var before, after *unstructured.Unstructured
	if step.Want != nil {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(step.Want)
		if err != nil {
			return fmt.Errorf("converting the apply configuration of %s: %w", step.Child, err)
		}
		after = &unstructured.Unstructured{Object: content}
	}
	if step.Live != nil {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(step.Live)
		if err != nil {
			return fmt.Errorf("reading %s: %w", step.Child, err)
		}
		before = &unstructured.Unstructured{Object: content}
	}
	if before != nil && after != nil {
		before.SetGroupVersionKind(after.GroupVersionKind()) // a typed client does not set it
		dropped, err := droppedFields(after, step.Live)
		if err != nil {
			return err
		}
		if after, err = applyconfigs.Applied(after, before, dropped); err != nil {
			return fmt.Errorf("applying to %s: %w", step.Child, err)
		}
		if err := c.Update(ctx, after, client.DryRunAll); err != nil {
			return fmt.Errorf("updating %s in a dry run: %w", step.Child, err)
		}
	}
	from, err := manifestOf(before)
	if err != nil {
		return err
	}
	to, err := manifestOf(after)
	if err != nil {
		return err
	}
	err = difflib.WriteUnifiedDiff(out, difflib.UnifiedDiff{
		A: difflib.SplitLines(from), B: difflib.SplitLines(to),
		FromFile: step.Kind + "/" + step.Name + " as it is", ToFile: step.Kind + "/" + step.Name + " as it would be", Context: 3,
	})
	if err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// droppedFields returns the fields that the operator owns alone and that want leaves out.
func droppedFields(want *unstructured.Unstructured, live client.Object) (*fieldpath.Set, error) {
	ours, others := fieldpath.NewSet(), fieldpath.NewSet()
	for _, entry := range live.GetManagedFields() {
		fields, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		if ownership.ManagerOf(entry) == observe.Self {
			ours = ours.Union(fields)
		} else {
			others = others.Union(fields)
		}
	}
	wanted, err := applyconfigs.FieldsOf(want)
	if err != nil {
		return nil, err
	}
	dropped := ours.Difference(wanted).Difference(others)
	// Only values and list entries are removed. An object or a map stays while it has other fields.
	leaves, items := dropped.Leaves(), fieldpath.NewSet()
	dropped.Iterate(func(path fieldpath.Path) {
		if path[len(path)-1].FieldName == nil {
			items.Insert(path.Copy())
		}
	})
	return leaves.Union(items), nil
}

// manifestOf returns an object as YAML, without its status and the metadata that the API server sets.
func manifestOf(object *unstructured.Unstructured) (string, error) {
	if object == nil {
		return "", nil
	}
	object = object.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(object.Object, "status")
	content, err := yaml.Marshal(object.Object)
	if err != nil {
		return "", fmt.Errorf("printing %q: %w", object.GetName(), err)
	}
	return string(content), nil
}
