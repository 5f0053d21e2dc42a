package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/registry"
	"mcpserver-operator/reconcile/scale"
)

// effects is what the operator would do for an MCPServer.
type effects struct {
	Server string `json:"server"`
	// Suspended is true if the MCPServer is suspended. Then the effects follow only when it is resumed.
	Suspended bool `json:"suspended,omitempty"`
	// IsOfToolHive is true if ToolHive's operator is in charge of the MCPServer. Then the effects follow only when it is taken over.
	IsOfToolHive bool `json:"isOfToolHive,omitempty"`
	// Conflicts are the fields of the file that other managers own on the MCPServer. "kubectl apply --server-side" fails because of them;
	// --force-conflicts takes them.
	Conflicts []conflict `json:"conflicts,omitempty"`
	// Scale is the change of the scale or of its owner; nil if there is none.
	Scale *scaleEffect `json:"scale,omitempty"`
	// Restarts are the changed fields of the pod template. They restart the pods.
	Restarts []string `json:"restarts,omitempty"`
	// OnDelete is true if the update strategy is OnDelete: then a pod restarts when somebody deletes it.
	OnDelete bool `json:"onDelete,omitempty"`
	// Recreate are the volumeClaimTemplates that only a recreated StatefulSet can have.
	Recreate []string `json:"recreate,omitempty"`
	// UpdateAvailable are the fields that the pod template of this version changes. They are not applied without a request.
	UpdateAvailable []string `json:"updateAvailable,omitempty"`
	// Children are the children that change or that the operator does not write.
	Children []childEffect `json:"children,omitempty"`
}

// conflict are fields that a manager owns.
type conflict struct {
	Manager string `json:"manager"`
	Field   string `json:"field"`
}

// scaleEffect is a change of the scale or of its owner.
type scaleEffect struct {
	From *int32 `json:"from,omitempty"`
	To   *int32 `json:"to,omitempty"`
	// Owner is the present owner.
	Owner  string       `json:"owner,omitempty"`
	Action scale.Action `json:"action"`
	Reason string       `json:"reason"`
}

// childEffect is what happens to a child.
type childEffect struct {
	Child  string      `json:"child"`
	Action plan.Action `json:"action"`
	Reason string      `json:"reason"`
	Error  string      `json:"error,omitempty"`
	Diff   string      `json:"diff,omitempty"`
}

// isEmpty reports whether the operator would do nothing.
func (e *effects) isEmpty() bool {
	return len(e.Conflicts) == 0 && e.Scale == nil && len(e.Recreate) == 0 && len(e.Children) == 0
}

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

// effects returns what the operator would do for an MCPServer. If ToolHive's operator is in charge of it, this is what the operator would do after
// a takeover.
func (c *connection) effects(ctx context.Context, server *v1beta1.MCPServer) (*effects, error) {
	through := client.Client(c.WithWatch)
	if server.IsOfToolHive() {
		g, err := readGraph(ctx, c, server)
		if err != nil {
			return nil, err
		}
		through = g.afterwards(c)
	}
	preview, err := c.preview(ctx, through, server)
	if err != nil {
		return nil, err
	}
	return effectsOf(preview)
}

// preview returns what the operator would do for an MCPServer, as seen by a client.
func (c *connection) preview(ctx context.Context, through client.Client, server *v1beta1.MCPServer) (*reconcile.Preview, error) {
	discoverer, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		return nil, fmt.Errorf("creating a discovery client: %w", err)
	}
	cluster, err := observe.Cluster(ctx, discoverer, nil)
	if err != nil {
		return nil, err
	}
	settings := c.settings
	cluster.RunnerImage = settings.Cluster.RunnerImage
	settings.Cluster = cluster
	reconciler := &reconcile.Reconciler{Client: through, APIReader: through, Settings: settings, Now: time.Now, ReadImage: readNoImage}
	preview, err := reconciler.Preview(ctx, server)
	if err != nil {
		return nil, err
	}
	preview.Snapshot.Autoscalers, err = c.autoscalers(ctx, server)
	if err != nil && !apierrors.IsForbidden(err) { // without the autoscalers, the name of the field manager is shown
		return nil, err
	}
	return preview, nil
}

// readNoImage is used instead of a look-up in a registry, which the operator can reach and the plugin perhaps not.
func readNoImage(context.Context, string) (registry.Image, error) {
	return registry.Image{}, errors.New("only the operator asks registries")
}

// effectsOf summarizes a preview.
func effectsOf(preview *reconcile.Preview) (*effects, error) {
	snapshot := preview.Snapshot
	found := &effects{
		Server: client.ObjectKeyFromObject(snapshot.Server).String(), Suspended: preview.Suspended, IsOfToolHive: preview.IsOfToolHive,
		Scale: scaleEffectOf(preview),
	}
	if set := snapshot.Children.StatefulSet; set != nil {
		found.Recreate = applyconfigs.ChangedClaims(snapshot.Server, set)
	}
	if preview.Update != nil {
		found.UpdateAvailable = preview.Update.Fields
	}
	for i := range preview.Steps {
		step := &preview.Steps[i]
		if step.Action == plan.Keep {
			continue
		}
		diff, err := step.Diff()
		if err != nil {
			return nil, err
		}
		child := childEffect{Child: step.String(), Action: step.Action, Reason: step.Reason, Diff: diff}
		if step.Err != nil {
			child.Error = step.Err.Error()
		}
		found.Children = append(found.Children, child)
		if step.Kind == observe.KindStatefulSet && step.Before != nil && step.After != nil {
			found.Restarts = changedPaths(templateOf(step.Before), templateOf(step.After), ".spec.template")
			strategy, _, _ := unstructured.NestedString(step.After.Object, "spec", "updateStrategy", "type")
			found.OnDelete = strategy == string(appsv1.OnDeleteStatefulSetStrategyType)
		}
	}
	return found, nil
}

// scaleEffectOf returns the change of the scale or of its owner; nil if there is none.
func scaleEffectOf(preview *reconcile.Preview) *scaleEffect {
	verdict := preview.Scale
	if !verdict.Writes() {
		return nil
	}
	effect := &scaleEffect{Action: verdict.Action, Reason: verdict.Reason, To: verdict.Apply.Replicas}
	if set := preview.Snapshot.Children.StatefulSet; set != nil {
		replicas := observe.ReplicasOf(set)
		effect.From, effect.Owner = &replicas, preview.Snapshot.ScaleOwnerName()
		if effect.To == nil {
			effect.To = &replicas
		}
	}
	return effect
}

func templateOf(set *unstructured.Unstructured) any {
	template, _, _ := unstructured.NestedFieldNoCopy(set.Object, "spec", "template")
	return template
}

// changedPaths returns the paths of the values in which two objects differ. Entries of a list are compared by their name, if all have one.
func changedPaths(before, after any, path string) []string {
	switch before := before.(type) {
	case map[string]any:
		if after, isObject := after.(map[string]any); isObject {
			return changedEntries(before, after, func(key string) string { return path + "." + key })
		}
	case []any:
		after, isList := after.([]any)
		named, haveNames := byName(before)
		namedAfter, haveNamesAfter := byName(after)
		if isList && haveNames && haveNamesAfter {
			changed := changedEntries(named, namedAfter, func(key string) string { return fmt.Sprintf("%s[name=%q]", path, key) })
			if len(changed) == 0 && !slices.Equal(namesOf(before), namesOf(after)) {
				return []string{path + ", the order of the entries"} // Kubernetes restarts pods for it
			}
			return changed
		}
	}
	if fmt.Sprint(before) == fmt.Sprint(after) {
		return nil
	}
	return []string{path}
}

func changedEntries(before, after map[string]any, pathOf func(string) string) []string {
	var changed []string
	for key := range before {
		if value, has := after[key]; has {
			changed = append(changed, changedPaths(before[key], value, pathOf(key))...)
		} else {
			changed = append(changed, pathOf(key))
		}
	}
	for key := range after {
		if _, had := before[key]; !had {
			changed = append(changed, pathOf(key))
		}
	}
	slices.Sort(changed)
	return changed
}

// namesOf returns the names of the entries of a list, in their order.
func namesOf(list []any) []string {
	var names []string
	for _, entry := range list {
		entry, _ := entry.(map[string]any)
		name, _ := entry["name"].(string)
		names = append(names, name)
	}
	return names
}

// byName returns the entries of a list by their name, and false if an entry has none, or two have the same.
func byName(list []any) (map[string]any, bool) {
	named := map[string]any{}
	for _, entry := range list {
		entry, isObject := entry.(map[string]any)
		name, hasName := entry["name"].(string)
		if _, isDouble := named[name]; !isObject || !hasName || isDouble {
			return nil, false
		}
		named[name] = entry
	}
	return named, true
}

func effectsText(e *effects) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s", e.Server)
	switch {
	case e.IsOfToolHive:
		namespace, name, _ := strings.Cut(e.Server, "/")
		fmt.Fprintf(text, " belongs to ToolHive's operator. When it is taken over, with kubectl mcpserver takeover %s -n %s:\n", name, namespace)
	case e.Suspended:
		text.WriteString(" is suspended. When it is resumed:\n")
	default:
		text.WriteString(":\n")
	}
	if e.isEmpty() {
		text.WriteString("  The operator would change nothing.\n")
	}
	for _, c := range e.Conflicts {
		fmt.Fprintf(text, "  Conflict: %q owns %s of the MCPServer. --force-conflicts would take it.\n", c.Manager, c.Field)
	}
	if e.Scale != nil {
		fmt.Fprintf(text, "  Scale: %s\n", scaleText(e.Scale))
	}
	switch {
	case len(e.Restarts) > 0 && e.OnDelete:
		fmt.Fprintf(text, "  A pod gets these changes when you delete it (updateStrategy OnDelete):\n    %s\n", strings.Join(e.Restarts, "\n    "))
	case len(e.Restarts) > 0:
		fmt.Fprintf(text, "  Pods restart, in a rolling update, because of:\n    %s\n", strings.Join(e.Restarts, "\n    "))
	case slices.ContainsFunc(e.Children, func(c childEffect) bool { return c.Action == plan.Apply || c.Action == plan.Migrate }):
		text.WriteString("  No pod restarts.\n")
	}
	if len(e.Recreate) > 0 {
		fmt.Fprintf(text, "  The StatefulSet must be recreated for the volumeClaimTemplates %s: see the condition Stalled.\n", strings.Join(e.Recreate, ", "))
	}
	if len(e.UpdateAvailable) > 0 {
		fmt.Fprintf(text, "  Not applied without your request, because it restarts pods (UpdateAvailable):\n    %s\n", strings.Join(e.UpdateAvailable, "\n    "))
	}
	for _, child := range e.Children {
		fmt.Fprintf(text, "  %s %s: %s\n", child.Action, child.Child, child.Reason)
		if child.Error != "" {
			fmt.Fprintf(text, "    %s\n", child.Error)
		}
		for line := range strings.Lines(child.Diff) {
			text.WriteString("    " + line)
		}
	}
	return text.String()
}

func scaleText(e *scaleEffect) string {
	switch {
	case e.From == nil:
		if e.To == nil {
			return e.Reason
		}
		return fmt.Sprintf("a new StatefulSet starts at %d: %s", *e.To, e.Reason)
	case e.Action == scale.Release:
		return fmt.Sprintf("stays %d, and the MCPServer gives it up: %s", *e.From, e.Reason)
	case e.Owner == v1beta1.ScaleOwnerMCPServer:
		return fmt.Sprintf("%d → %d: %s", *e.From, *e.To, e.Reason)
	default:
		return fmt.Sprintf("%d → %d, taken from %s: %s", *e.From, *e.To, scale.Describe(e.Owner), e.Reason)
	}
}
