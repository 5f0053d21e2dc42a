package reconcile

import (
	"bytes"
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
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/registry"
	"mcpserver-operator/reconcile/scale"
)

// mostPasses is more passes than any MCPServer needs until no step of its plan requires another pass.
const mostPasses = 5

// Preview is what the next passes over an MCPServer would do to its children.
type Preview struct {
	// Snapshot is what the first pass reads.
	Snapshot *observe.Snapshot
	// Suspended is true if the MCPServer is suspended. Then the steps follow only when it is resumed.
	Suspended bool
	// IsOfToolHive is true if ToolHive's operator is in charge of the MCPServer. Then the steps follow only when the MCPServer is taken over.
	IsOfToolHive bool
	// Scale is the decision of the first pass about the scale.
	Scale scale.Verdict
	// Update is a new pod template that is not applied; nil if there is none.
	Update *plan.Update
	// Steps are the steps of all passes, in order. An Invalid step is the last.
	Steps []PreviewedStep
}

// PreviewedStep is a step, and its effect.
type PreviewedStep struct {
	plan.Step
	// Before is the child as it is; nil if it is absent. After is the child after the step; nil if the step deletes it. Both are nil if the step
	// changes nothing but the ownership of fields.
	Before, After *unstructured.Unstructured
}

// Decision returns what the next pass over an MCPServer reads, and its decision about the scale. It only reads. Client must read from the API
// server, not from a cache.
func (r *Reconciler) Decision(ctx context.Context, server *v1beta1.MCPServer) (*observe.Snapshot, scale.Verdict, error) {
	r.once.Do(r.start)
	if r.ReadImage != nil {
		r.reader.Images = imagesNow(func(image string) (registry.Image, error) { return r.ReadImage(ctx, image) })
	}
	snapshot, err := r.reader.Planned(ctx, server, metav1.NewTime(r.Now()).Rfc3339Copy())
	if err != nil {
		return nil, scale.Verdict{}, err
	}
	return snapshot, scale.Decide(snapshot.ScaleInput()), nil
}

// Preview returns what the next passes over an MCPServer would do to its children. It writes nothing to the API server. Use it before the operator
// takes over the MCPServers of another operator. Client must read from the API server, not from a cache. A dry run on the API server sets the
// default values of removed fields.
func (r *Reconciler) Preview(ctx context.Context, server *v1beta1.MCPServer) (preview *Preview, err error) {
	// A dry run is for the version of a child that was read, and others write it as well, such as its status.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
		preview, err = r.previewOnce(ctx, server)
		return err
	})
	return preview, err
}

func (r *Reconciler) previewOnce(ctx context.Context, server *v1beta1.MCPServer) (*Preview, error) {
	preview := &Preview{Suspended: server.Spec.Suspend, IsOfToolHive: server.IsOfToolHive()}
	snapshot, verdict, err := r.Decision(ctx, server)
	if err != nil {
		return nil, err
	}
	settings := r.Settings
	if settings.Cluster.IPFamily == "" {
		if settings.Cluster.IPFamily, err = familyOfNewService(ctx, r.Client, snapshot); err != nil {
			return nil, err
		}
	}
	preview.Snapshot, preview.Scale = snapshot, verdict
	for range mostPasses {
		p := plan.Make(snapshot, scale.Decide(snapshot.ScaleInput()), settings, r.memory)
		preview.Update = p.Update
		next := snapshot
		for i := range p.Steps {
			step := PreviewedStep{Step: p.Steps[i]}
			switch {
			case step.Err != nil:
				preview.Steps = append(preview.Steps, step)
				return preview, nil //nolint:nilerr // the step has the error
			case step.IsFirst():
				patched, err := patched(&step.Step)
				if err != nil {
					return nil, err
				}
				if next, err = next.With(patched); err != nil {
					return nil, err
				}
			case step.Writes():
				if step.Before, step.After, err = effect(ctx, r.Client, &step.Step); err != nil {
					return nil, err
				}
			}
			preview.Steps = append(preview.Steps, step)
		}
		if next == snapshot {
			return preview, nil
		}
		snapshot = next
	}
	return nil, fmt.Errorf("the plan for MCPServer %q still has steps after %d passes", server.Name, mostPasses)
}

// Print prints each step with its reason, and a diff of each child that changes. It returns the error of an Invalid step.
func (p *Preview) Print(out io.Writer) error {
	text := &bytes.Buffer{}
	if p.Suspended {
		fmt.Fprintf(text, "MCPServer %q is suspended: the operator writes nothing until spec.suspend is removed. Then:\n", client.ObjectKeyFromObject(p.Snapshot.Server))
	}
	if p.IsOfToolHive {
		fmt.Fprintf(text, "MCPServer %q has the finalizer of ToolHive's operator: the operator writes only its status until it is taken over, with kubectl mcpserver takeover %s -n %s. Then:\n",
			client.ObjectKeyFromObject(p.Snapshot.Server), p.Snapshot.Server.Name, p.Snapshot.Server.Namespace)
	}
	var invalid error
	for i := range p.Steps {
		step := &p.Steps[i]
		fmt.Fprintf(text, "%s %s: %s\n", step.Action, step.Child, step.Reason)
		if step.Err != nil {
			invalid = step.Err
		}
		diff, err := step.Diff()
		if err != nil {
			return err
		}
		text.WriteString(diff)
	}
	if _, err := text.WriteTo(out); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return invalid
}

// Diff returns what a step changes in a child, as a unified diff; empty if it changes nothing but the ownership of fields.
func (s *PreviewedStep) Diff() (string, error) {
	from, err := manifestOf(s.Before)
	if err != nil {
		return "", err
	}
	to, err := manifestOf(s.After)
	if err != nil {
		return "", err
	}
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(from), B: difflib.SplitLines(to),
		FromFile: s.Kind + "/" + s.Name + " as it is", ToFile: s.Kind + "/" + s.Name + " as it would be", Context: 3,
	})
	if err != nil {
		return "", fmt.Errorf("comparing %s: %w", s.Child, err)
	}
	return diff, nil
}

// familyOfNewService returns the IP family that a Service of the MCPServer would get. It is only used if no Service exists.
func familyOfNewService(ctx context.Context, c client.Client, s *observe.Snapshot) (corev1.IPFamily, error) {
	if s.Children.ClientService != nil || s.Children.HeadlessService != nil {
		return "", nil // its family is used
	}
	service := applyconfigs.ClientService(s.Server, s.Fixed, false)
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

// effect returns a child before and after a step; nil if it is absent. It cannot use a dry run of the apply: if an earlier step patches the child,
// the apply is for a version that does not exist yet.
func effect(ctx context.Context, c client.Client, step *plan.Step) (before, after *unstructured.Unstructured, err error) {
	if step.Want != nil {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(step.Want)
		if err != nil {
			return nil, nil, fmt.Errorf("converting the apply configuration of %s: %w", step.Child, err)
		}
		after = &unstructured.Unstructured{Object: content}
	}
	if step.Live != nil {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(step.Live)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", step.Child, err)
		}
		before = &unstructured.Unstructured{Object: content}
	}
	if before == nil || after == nil {
		return before, after, nil
	}
	before.SetGroupVersionKind(after.GroupVersionKind()) // a typed client does not set it
	dropped, err := droppedFields(after, step.Live)
	if err != nil {
		return nil, nil, err
	}
	if after, err = applyconfigs.Applied(after, before, dropped); err != nil {
		return nil, nil, fmt.Errorf("applying to %s: %w", step.Child, err)
	}
	if err := c.Update(ctx, after, client.DryRunAll); err != nil {
		return nil, nil, fmt.Errorf("updating %s in a dry run: %w", step.Child, err)
	}
	return before, after, nil
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
