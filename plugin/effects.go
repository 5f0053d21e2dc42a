package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
