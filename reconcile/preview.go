package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pmezard/go-difflib/difflib"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// Preview prints what the next passes over an MCPServer would change in its children, as a diff of each, and writes
// nothing to the API server. It is meant for a look before the operator is started over MCPServers that another operator
// runs. The Client has to read from the API server; it asks it, in a dry run, for the defaults of what goes.
func (r *Reconciler) Preview(ctx context.Context, key client.ObjectKey, out io.Writer) error {
	server := &v1alpha1.MCPServer{}
	if err := r.Client.Get(ctx, key, server); err != nil {
		return fmt.Errorf("reading the MCPServer: %w", err)
	}
	p := &pass{server: server, now: metav1.NewTime(r.Now()).Rfc3339Copy()}
	if err := r.observeChildren(ctx, p); err != nil {
		return err
	}
	p.verdict = decideScale(p.scaleInput())
	// A Service that is not there yet has no IP family but the declared one.
	clients, headless := applyconfigs.ClientService(server, p.fixed), applyconfigs.HeadlessService(server, p.fixed)
	set, err := applyconfigs.StatefulSet(server, p.verdict.Apply, p.fixed, r.clusterFor(p, clients, headless))
	if err != nil {
		return &invalidSpecError{err}
	}
	return errors.Join(
		previewChild(ctx, r.Client, out, p, set, p.children.statefulSet),
		previewChild(ctx, r.Client, out, p, clients, p.children.clientService),
		previewChild(ctx, r.Client, out, p, headless, p.children.headlessService),
		previewChild(ctx, r.Client, out, p, applyconfigs.ServiceAccount(server), p.children.serviceAccount),
		previewChild(ctx, r.Client, out, p, applyconfigs.NetworkPolicy(server, p.fixed), p.children.networkPolicy),
		previewChild(ctx, r.Client, out, p, applyconfigs.PodDisruptionBudget(server, p.fixed), p.children.podDisruptionBudget),
		previewRefusals(out, p.refusals),
	)
}

func previewRefusals(out io.Writer, refusals []refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(out, refusalMessage(refusals)); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// previewChild prints what an apply of want would change in one child; nil is a child that is not wanted.
func previewChild[C applyConfiguration[C], L liveObject](
	ctx context.Context, c client.Client, out io.Writer, p *pass, want C, live L,
) error {
	var none C
	var absent L
	if want == none && live == absent {
		return nil
	}
	var before, after, kindOf *unstructured.Unstructured
	if want != none {
		after = unstructuredOf(want)
		kindOf = after
		if p.refused(after.GetKind(), after.GetName()) {
			return nil
		}
	}
	if live != absent {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
		if err != nil {
			return fmt.Errorf("reading %q: %w", live.GetName(), err)
		}
		before = &unstructured.Unstructured{Object: content}
		if after != nil {
			before.SetGroupVersionKind(after.GroupVersionKind()) // a typed client does not tell it
			dropped, err := droppedFields(after, live)
			if err != nil {
				return err
			}
			if after, err = applyconfigs.Applied(after, before, dropped); err != nil {
				return fmt.Errorf("applying to %q: %w", live.GetName(), err)
			}
			if err := c.Update(ctx, after, client.DryRunAll); err != nil {
				return fmt.Errorf("asking what would become of %q: %w", live.GetName(), err)
			}
		}
	}
	name := fmt.Sprintf("%T", live)
	if kindOf != nil {
		name = kindOf.GetKind() + "/" + kindOf.GetName()
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
		FromFile: name + " as it is", ToFile: name + " as it would be", Context: 3,
	})
	if err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// droppedFields returns the fields that the operator, or the one before it, owns alone and that want leaves out.
func droppedFields(want *unstructured.Unstructured, live client.Object) (*fieldpath.Set, error) {
	ours, others := fieldpath.NewSet(), fieldpath.NewSet()
	for _, entry := range live.GetManagedFields() {
		fields, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		isPredecessor := entry.Subresource == "" && slices.Contains(predecessors, entry.Manager)
		switch {
		case isPredecessor:
			ours = ours.Union(fields.Difference(fieldpath.NewSet(replicasPath)))
		case ownership.ManagerOf(entry) == self:
			ours = ours.Union(fields)
		default:
			others = others.Union(fields)
		}
	}
	wanted, err := applyconfigs.FieldsOf(want)
	if err != nil {
		return nil, err
	}
	// The scale never goes with what is dropped: it is released before.
	dropped := ours.Difference(wanted).Difference(others).Difference(fieldpath.NewSet(replicasPath))
	// An object or a map stays while it has something left; only values and entries of lists go.
	leaves, items := dropped.Leaves(), fieldpath.NewSet()
	dropped.Iterate(func(path fieldpath.Path) {
		if path[len(path)-1].FieldName == nil {
			items.Insert(path.Copy())
		}
	})
	return leaves.Union(items), nil
}

// manifestOf prints an object without what the API server keeps account of.
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
