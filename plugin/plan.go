package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

func newPlan(s *session) *cobra.Command {
	var file, manager string
	cmd := &cobra.Command{
		Use:   "plan NAME | -f FILE",
		Short: "Show what the operator would do for an MCPServer, or for a manifest",
		Long: "Shows what the operator would do: how the scale moves and who loses it, which pods restart because of which fields, what must be recreated, " +
			"and a diff of each child. With -f, it also shows which fields of the MCPServer other managers own. It writes nothing; it sends dry-run requests.\n\n" +
			"It refuses to plan for an operator of another minor version, which may build other children.\n\n" +
			"Exit codes, as those of kubectl diff: 0 if nothing changes, 1 if something changes, 2 for errors.",
		Example: "  kubectl mcpserver plan web\n  kubectl mcpserver plan -f web.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return errors.New("plan requires either the name of an MCPServer or -f FILE")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			if err := errors.Join(c.checkServed(), s.checkVersion(cmd.Context(), c)); err != nil {
				return err
			}
			var all []*effects
			if file == "" {
				server, err := c.server(cmd, args[0])
				if err != nil {
					return err
				}
				found, err := c.effects(cmd.Context(), server)
				if err != nil {
					return err
				}
				all = append(all, found)
			} else if all, err = s.effectsOfFile(cmd.Context(), c, file, manager); err != nil {
				return err
			}
			err = s.print(all, func() string {
				text := &strings.Builder{}
				for _, one := range all {
					text.WriteString(effectsText(one))
				}
				return text.String()
			})
			if err != nil || !slices.ContainsFunc(all, func(e *effects) bool { return !e.isEmpty() }) {
				return err
			}
			return errFound
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "a file with manifests of MCPServers; - is the standard input")
	cmd.Flags().StringVar(&manager, "field-manager", "kubectl", "the field manager that will apply the file with server-side apply")
	return cmd
}

// effectsOfFile returns the effects of applying the MCPServers in a file with server-side apply.
func (s *session) effectsOfFile(ctx context.Context, c *connection, file, manager string) ([]*effects, error) {
	infos, err := resource.NewBuilder(s.flags).Unstructured().NamespaceParam(c.namespace).DefaultNamespace().
		FilenameParam(false, &resource.FilenameOptions{Filenames: []string{file}}).Flatten().Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	var all []*effects
	for _, info := range infos {
		if kind := info.Mapping.GroupVersionKind.GroupKind(); kind != v1beta1.GroupVersion.WithKind("MCPServer").GroupKind() {
			s.warn("%s: not planned, because it is not an MCPServer", info.ObjectName())
			continue
		}
		server, conflicts, err := c.applied(ctx, info, manager)
		if err != nil {
			return nil, err
		}
		one, err := c.effects(ctx, server)
		if err != nil {
			return nil, err
		}
		one.Conflicts = conflicts
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no MCPServer", file)
	}
	return all, nil
}

// applied returns the MCPServer after a server-side apply with --force-conflicts, in a dry run, and the conflicts without it.
func (c *connection) applied(ctx context.Context, info *resource.Info, manager string) (*v1beta1.MCPServer, []conflict, error) {
	manifest, isUnstructured := info.Object.(*unstructured.Unstructured)
	if !isUnstructured {
		return nil, nil, fmt.Errorf("%s is a %T", info.ObjectName(), info.Object)
	}
	apply := func(options ...client.ApplyOption) (*unstructured.Unstructured, error) {
		object := manifest.DeepCopy()
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), append(options, client.FieldOwner(manager), client.DryRunAll)...)
		return object, err
	}
	object, err := apply()
	var conflicts []conflict
	if apierrors.IsConflict(err) {
		conflicts = conflictsIn(err)
		object, err = apply(client.ForceOwnership)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("applying %s in a dry run: %w", info.ObjectName(), err)
	}
	server := &v1beta1.MCPServer{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, server); err != nil {
		return nil, nil, fmt.Errorf("reading the answer to the dry run for %s: %w", info.ObjectName(), err)
	}
	return server, conflicts, nil
}

// conflict are fields that a manager owns.
type conflict struct {
	Manager string `json:"manager"`
	Field   string `json:"field"`
}

// conflictsIn returns the conflicts of a server-side apply.
func conflictsIn(err error) []conflict {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var all []conflict
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			manager := strings.TrimPrefix(cause.Message, "conflict with ")
			if quoted, err := strconv.QuotedPrefix(manager); err == nil {
				manager = strings.Trim(quoted, `"`)
			}
			all = append(all, conflict{Manager: bounded(manager), Field: bounded(cause.Field)})
		}
	}
	return all
}
