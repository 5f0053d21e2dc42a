package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/act"
	"mcpserver-operator/reconcile/ownership"
)

// nobody is the value of --to that gives up the ownership.
const nobody = "nobody"

func newHandover(s *session) *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "handover NAME --to hpa|nobody|MANAGER | TYPE/NAME .PATH --from MANAGER --to nobody|MANAGER",
		Short: "Give the scale of an MCPServer, or a field of any object, to another owner",
		Long: "Moves the ownership of a field; its value does not change.\n\n" +
			"With the name of an MCPServer, it removes spec.replicas from the MCPServer, so that the operator gives up the scale of the StatefulSet. " +
			"The scale then has no owner (--to nobody), waits for an autoscaler (--to hpa), or belongs to the field manager MANAGER. " +
			"It names the sources that still have replicas and would declare them again.\n\n" +
			"With TYPE/NAME and a path, it moves a field of any object, with all fields below it, between field managers. " +
			"MANAGER is the name of a field manager, or NAME:Apply, NAME:Update or NAME:Update:SUBRESOURCE if the name alone is ambiguous.",
		Example: "  kubectl mcpserver handover web --to hpa\n" +
			"  kubectl mcpserver handover deployment/web .spec.replicas --from helm --to nobody",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 && (!strings.Contains(args[0], "/") || strings.HasPrefix(args[0], "mcpserver/")) {
				if from != "" {
					return errors.New("--from requires TYPE/NAME and a path: an MCPServer gives up its own declaration")
				}
				return s.handOverScale(cmd, c, args[0], to)
			}
			if len(args) != 2 || from == "" {
				return errors.New("a field of an object requires TYPE/NAME, .PATH, --from and --to")
			}
			return s.handOverField(cmd, c, args[0], args[1], from, to)
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().StringVar(&from, "from", "", "the field manager that gives up the field")
	cmd.Flags().StringVar(&to, "to", "", "the new owner: nobody, a field manager, or hpa for the scale of an MCPServer")
	_ = cmd.MarkFlagRequired("to") // the flag exists
	return cmd
}

// handOverField moves the ownership of a field of any object.
func (s *session) handOverField(cmd *cobra.Command, c *connection, name, path, from, to string) error {
	top, err := parsePath(path)
	if err != nil {
		return err
	}
	var receiver *ownership.Manager
	// The controller of an object may write its status at any time.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
		receiver, err = s.moveField(cmd.Context(), c, name, top, from, to)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s: %s now belongs to %s. Its value has not changed.\n", name, path, to)
	if err == nil && receiver != nil && receiver.Operation == metav1.ManagedFieldsOperationApply {
		_, err = fmt.Fprintf(s.Out, "If %q applies the object without this field, Kubernetes removes the field.\n", receiver.Name)
	}
	if err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// moveField moves a field of an object, and the fields inside it, and returns the manager that has received it; nil for nobody.
func (s *session) moveField(
	ctx context.Context, c *connection, name, top, from, to string,
) (*ownership.Manager, error) {
	object, err := s.object(name)
	if err != nil {
		return nil, err
	}
	givers, err := managersNamed(object, from)
	if err != nil {
		return nil, err
	}
	if len(givers) == 0 {
		return nil, fmt.Errorf("--from is %q: %s has no such field manager; it has %s", from, name, managersText(object))
	}
	var receiver *ownership.Manager
	if to != nobody {
		if receiver, err = receiverNamed(object, to); err != nil {
			return nil, err
		}
	}
	fields, err := fieldsBelow(object, top, givers)
	if err != nil {
		return nil, err
	}
	patch, err := ownership.Move(object, givers, receiver, object.GetAPIVersion(), fields)
	if err != nil {
		return nil, err
	}
	if patch == nil {
		return nil, fmt.Errorf("field manager %q does not own %s of %s: run kubectl mcpserver owners %s %s", from, top, name, name, top)
	}
	return receiver, c.patchObject(ctx, object, patch)
}

// patchObject sends a JSON patch that changes managedFields or metadata only.
func (c *connection) patchObject(ctx context.Context, object client.Object, patch []ownership.Operation) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("writing the patch: %w", err)
	}
	err = c.Patch(ctx, object, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(fieldManager))
	if act.IsFailedTest(err) {
		return apierrors.NewConflict(c.resourceOf(object), object.GetName(), errors.New("it has changed in the meantime: run the command again"))
	}
	if err != nil {
		return fmt.Errorf("patching %s: %w", textOf(object), err)
	}
	return nil
}

// resourceOf returns the resource of an object, for messages.
func (c *connection) resourceOf(object client.Object) schema.GroupResource {
	kind, err := c.GroupVersionKindFor(object)
	if err == nil {
		if mapping, err := c.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); err == nil {
			return mapping.Resource.GroupResource()
		}
	}
	return schema.GroupResource{Group: kind.Group, Resource: strings.ToLower(kind.Kind)}
}

// parseManager parses NAME, NAME:OPERATION or NAME:OPERATION:SUBRESOURCE. The operation is empty if it is not given.
func parseManager(text string) (ownership.Manager, error) {
	parts := strings.SplitN(text, ":", 3)
	manager := ownership.Manager{Name: parts[0]}
	if manager.Name == "" {
		return manager, fmt.Errorf("invalid field manager %q: the name is empty", text)
	}
	if len(parts) > 1 {
		manager.Operation = metav1.ManagedFieldsOperationType(parts[1])
		if manager.Operation != metav1.ManagedFieldsOperationApply && manager.Operation != metav1.ManagedFieldsOperationUpdate {
			return manager, fmt.Errorf("invalid field manager %q: the operation must be Apply or Update", text)
		}
	}
	if len(parts) > 2 {
		manager.Subresource = parts[2]
	}
	return manager, nil
}

// managersNamed returns the entries of an object that a text names: all with its name, if it has no operation.
func managersNamed(object metav1.Object, text string) ([]ownership.Manager, error) {
	wanted, err := parseManager(text)
	if err != nil {
		return nil, err
	}
	var found []ownership.Manager
	for _, entry := range object.GetManagedFields() {
		manager := ownership.ManagerOf(entry)
		isNamed := manager == wanted || (wanted.Operation == "" && manager.Name == wanted.Name)
		if isNamed && !slices.Contains(found, manager) { // it has an entry for each apiVersion
			found = append(found, manager)
		}
	}
	return found, nil
}

// receiverNamed returns the field manager that a text names: an existing entry, or a new one that applies.
func receiverNamed(object metav1.Object, text string) (*ownership.Manager, error) {
	found, err := managersNamed(object, text)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(text, ":") { // the entry of a status does not own other fields
		found = slices.DeleteFunc(found, func(m ownership.Manager) bool { return m.Subresource != "" && m.Subresource != "scale" })
	}
	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		manager, err := parseManager(text)
		if manager.Operation == "" {
			manager.Operation = metav1.ManagedFieldsOperationApply
		}
		return &manager, err
	default:
		return nil, fmt.Errorf("--to is %q, which names %d entries of managedFields: add the operation, such as %s:Apply", text, len(found), text)
	}
}

// managersText returns the names of the field managers of an object for an error message.
func managersText(object metav1.Object) string {
	var names []string
	for _, entry := range object.GetManagedFields() {
		names = append(names, fmt.Sprintf("%q", bounded(entry.Manager)))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// fieldsBelow returns the fields at and below a path that managers own.
func fieldsBelow(object metav1.Object, top string, managers []ownership.Manager) (*fieldpath.Set, error) {
	below := fieldpath.NewSet()
	for _, entry := range object.GetManagedFields() {
		if !slices.Contains(managers, ownership.ManagerOf(entry)) {
			continue
		}
		fields, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		fields.Iterate(func(path fieldpath.Path) {
			if isBelow(path, top) {
				below.Insert(path.Copy())
			}
		})
	}
	return below, nil
}
