package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/plan"
)

type takeoverOptions struct {
	all, dryRun, removeLeftovers bool
	// isNamed is true if the user has named the MCPServer.
	isNamed bool
}

// takeover is what a takeover does for one MCPServer.
type takeover struct {
	Server string `json:"server"`
	// IsDeleted is true if the MCPServer is being deleted, and only waits for ToolHive's finalizer.
	IsDeleted bool `json:"isDeleted,omitempty"`
	// IsKept is true if the MCPServer is left to ToolHive's operator, because it has refused fields and was not named.
	IsKept bool `json:"isKept,omitempty"`
	// Steps are the changes that the takeover makes, in order.
	Steps []string `json:"steps,omitempty"`
	// NotAdopted are the objects with the names of the StatefulSet and the Services that the MCPServer does not get.
	NotAdopted []notAdopted `json:"notAdopted,omitempty"`
	// Leftovers are the objects of ToolHive that nothing needs any more. --remove-leftovers deletes them.
	Leftovers []string `json:"leftovers,omitempty"`
	// StillNeeded are the objects of ToolHive that pods may still use. A later run lists or deletes them.
	StillNeeded []string `json:"stillNeeded,omitempty"`
	// Warnings are the findings of audit.
	Warnings []finding `json:"warnings,omitempty"`
	// Effects is what this operator then does.
	Effects *effects `json:"effects,omitempty"`
	// Unknown is why it is not known what this operator then does: the user may not send the requests, not even in a dry run.
	Unknown string `json:"unknown,omitempty"`
}

// changesSomething reports whether a takeover has something to do.
func (t *takeover) changesSomething(o takeoverOptions) bool {
	return len(t.Steps) > 0 || (o.removeLeftovers && len(t.Leftovers) > 0)
}

func newTakeover(s *session) *cobra.Command {
	var o takeoverOptions
	cmd := &cobra.Command{
		Use:   "takeover [NAME | -A]",
		Short: "Take over MCPServers from ToolHive's operator",
		Long: "Makes an MCPServer the controller of the StatefulSet and the Services that ToolHive's operator has left for it, and removes that operator's finalizer. " +
			"This operator then carries on: it migrates the fields and applies its own. Without a name, takes over all MCPServers of the namespace.\n\n" +
			"ToolHive's operator and the proxies must not run: they would write the objects again. If one runs, the command changes nothing and prints the command that stops it.\n\n" +
			"The takeover itself restarts no pod. This operator restarts pods only if the pod template differs: --dry-run shows the fields. " +
			"The scale stays, and belongs to whoever has set it, unless spec.replicas is set: it is the number of pods of the server here, not of the proxy.\n\n" +
			"The command can be stopped and repeated at any time.",
		Example: "  kubectl mcpserver takeover -A --dry-run\n  kubectl mcpserver takeover web\n  kubectl mcpserver takeover -A --remove-leftovers",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.all && len(args) > 0 {
				return errors.New("a name and --all-namespaces exclude each other")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			o.isNamed = len(args) > 0
			return s.takeOver(cmd, c, args, o)
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "take over the MCPServers of all namespaces")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only print what would be done")
	cmd.Flags().BoolVar(&o.removeLeftovers, "remove-leftovers", false, "delete the objects of ToolHive that nothing needs any more")
	return cmd
}

func (s *session) takeOver(cmd *cobra.Command, c *connection, names []string, o takeoverOptions) error {
	ctx := cmd.Context()
	if err := s.checkVersion(ctx, c); err != nil {
		return err
	}
	stored, err := c.storedServers(cmd, names, o.all)
	if err != nil {
		return err
	}
	if err := errors.Join(c.checkServed(), s.checkStopped(ctx, c, o)); err != nil {
		return err
	}
	results := []*takeover{}
	var text strings.Builder
	var running []string
	var failed error // an MCPServer that cannot be taken over does not stop the others
	changes := false
	for _, one := range stored {
		result, proxy, err := c.takeOverOne(ctx, one, o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if apierrors.IsNotFound(err) && o.all {
			continue // it was deleted in the meantime
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("MCPServer %s: %w", one, err))
			continue
		}
		changes = changes || result.changesSomething(o)
		results = append(results, result)
		if proxy != nil {
			running = append(running, scaleDownCommand(proxy))
		}
		text.WriteString(takeoverText(result, o, proxy != nil))
	}
	if err := s.print(results, text.String); err != nil {
		return err
	}
	if len(running) > 0 {
		s.warn("The proxies of ToolHive must not run, because they apply the StatefulSet when they start. To stop them, run:\n  %s",
			strings.Join(running, "\n  "))
		if !o.dryRun {
			failed = errors.Join(failed, fmt.Errorf("%s not taken over, because a proxy runs", count(len(running), "MCPServer")))
		}
	}
	if failed != nil {
		return failed
	}
	if o.dryRun && changes {
		return errFound
	}
	return nil
}

// takeOverOne takes over one MCPServer, unless its proxy runs or o.dryRun is set. It returns what the takeover does, and the proxy that runs.
func (c *connection) takeOverOne(ctx context.Context, stored *storedServer, o takeoverOptions) (*takeover, *appsv1.Deployment, error) {
	server := &v1beta1.MCPServer{}
	if err := c.Get(ctx, stored.NamespacedName, server); err != nil {
		return nil, nil, fmt.Errorf("reading it: %w", err)
	}
	g, err := readGraph(ctx, c, server)
	if err != nil {
		return nil, nil, err
	}
	result, err := c.takeoverOf(ctx, g, auditOf(stored))
	if err != nil {
		return nil, nil, err
	}
	if g.proxyRuns() {
		return result, g.proxy, nil
	}
	if len(server.Spec.RefusedNames()) > 0 && !result.IsDeleted && !o.isNamed {
		result.Steps, result.Leftovers, result.IsKept = nil, nil, true // its proxy protects it
		return result, nil, nil
	}
	if o.dryRun {
		return result, nil, nil
	}
	return result, nil, c.carryOutCurrent(ctx, stored.NamespacedName, o)
}

// checkStopped fails if ToolHive's operator runs. A dry run only prints it.
func (s *session) checkStopped(ctx context.Context, c *connection, o takeoverOptions) error {
	operators, forbidden, err := runningOperators(ctx, c)
	if err != nil {
		return err
	}
	if forbidden {
		s.warn("Warning: you may not list Deployments in all namespaces. Make sure that ToolHive's operator does not run.")
	}
	if len(operators) == 0 {
		return nil
	}
	var commands []string
	for i := range operators {
		commands = append(commands, scaleDownCommand(&operators[i]))
	}
	s.warn("ToolHive's operator runs. It would write the objects again. To stop it, run:\n  %s", strings.Join(commands, "\n  "))
	if o.dryRun {
		return nil
	}
	return errors.New("nothing was taken over, because ToolHive's operator runs")
}

func scaleDownCommand(deployment *appsv1.Deployment) string {
	return fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=0", deployment.Namespace, deployment.Name)
}

// takeoverOf returns what a takeover does for an MCPServer. It changes nothing.
func (c *connection) takeoverOf(ctx context.Context, g *graph, warnings []finding) (*takeover, error) {
	result := &takeover{Server: client.ObjectKeyFromObject(g.server).String(), Warnings: warnings, IsDeleted: g.isDeleted()}
	for _, object := range g.toAdopt() {
		result.Steps = append(result.Steps, "make the MCPServer the controller of "+textOf(object))
	}
	if g.hasFinalizer() {
		result.Steps = append(result.Steps, "remove the finalizer "+v1beta1.ToolHiveFinalizer)
	}
	result.NotAdopted = g.notAdopted()
	free, needed := g.leftovers()
	for _, object := range free {
		result.Leftovers = append(result.Leftovers, textOf(object))
	}
	for _, object := range needed {
		result.StillNeeded = append(result.StillNeeded, textOf(object))
	}
	if g.isDeleted() || len(g.server.Spec.RefusedNames()) > 0 {
		return result, nil // this operator does nothing for it
	}
	preview, err := c.preview(ctx, g.afterwards(c), g.server)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil { // for example, the user may not send dry-run requests; the takeover does not depend on it
		result.Unknown = bounded(err.Error())
		return result, nil
	}
	result.Effects, err = effectsOf(preview)
	return result, err
}

// afterwards returns a client that sees the adopted objects as they are after the takeover.
func (g *graph) afterwards(c client.WithWatch) client.Client {
	adopted := g.toAdopt()
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if err := c.Get(ctx, key, object, options...); err != nil {
				return err
			}
			if slices.ContainsFunc(adopted, func(one client.Object) bool { return one.GetUID() == object.GetUID() }) {
				object.SetOwnerReferences(ownedBy(object, g.server))
			}
			return nil
		},
	})
}

// carryOutCurrent makes the changes of a takeover. It begins again if an object changes in the meantime, for example the status.
func (c *connection) carryOutCurrent(ctx context.Context, key client.ObjectKey, o takeoverOptions) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		server := &v1beta1.MCPServer{}
		if err := c.Get(ctx, key, server); err != nil {
			return fmt.Errorf("reading the MCPServer: %w", err)
		}
		g, err := readGraph(ctx, c, server)
		if err != nil {
			return err
		}
		if g.proxyRuns() { // it has been started in the meantime
			return fmt.Errorf("its proxy runs: to stop it, run %s", scaleDownCommand(g.proxy))
		}
		return c.carryOut(ctx, g, o)
	})
}

// carryOut makes the changes of a takeover. Each change applies only to the version that was read, and none depends on the others, so that a
// second run continues after any of them. The finalizer is removed last: until then, the MCPServer cannot disappear with its children.
func (c *connection) carryOut(ctx context.Context, g *graph, o takeoverOptions) error {
	for _, object := range g.toAdopt() {
		patch := []ownership.Operation{
			{Op: "test", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
			{Op: "add", Path: "/metadata/ownerReferences", Value: ownedBy(object, g.server)},
		}
		if err := c.patchObject(ctx, object, patch); err != nil {
			return err
		}
	}
	if g.hasFinalizer() {
		finalizers := slices.DeleteFunc(slices.Clone(g.server.Finalizers), func(name string) bool { return name == v1beta1.ToolHiveFinalizer })
		patch := []ownership.Operation{
			{Op: "test", Path: "/metadata/resourceVersion", Value: g.server.ResourceVersion},
			{Op: "replace", Path: "/metadata/finalizers", Value: finalizers},
		}
		if err := c.patchObject(ctx, g.server, patch); err != nil {
			return err
		}
	}
	if !o.removeLeftovers {
		return nil
	}
	free, _ := g.leftovers()
	for _, object := range free {
		err := c.Delete(ctx, object, client.Preconditions{UID: ptr.To(object.GetUID())})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s: %w", textOf(object), err)
		}
	}
	return nil
}

func takeoverText(t *takeover, o takeoverOptions, proxyRuns bool) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s", t.Server)
	switch {
	case proxyRuns && !o.dryRun:
		text.WriteString(": not taken over, because its proxy runs\n")
		return text.String()
	case t.IsKept:
		text.WriteString(": not taken over, because ToolHive's proxy protects it. To take it over without the protection, name it\n")
	case !t.changesSomething(o):
		text.WriteString(": nothing to take over\n")
	case o.dryRun:
		text.WriteString(": would\n")
	default:
		text.WriteString(":\n")
	}
	for _, step := range t.Steps {
		fmt.Fprintf(text, "  %s\n", step)
	}
	for _, object := range t.NotAdopted {
		fmt.Fprintf(text, "  not taken over: %s, because %s. %s\n", object.Object, object.Reason, object.Advice)
	}
	for _, object := range t.Leftovers {
		if o.removeLeftovers {
			fmt.Fprintf(text, "  delete %s\n", object)
		} else {
			fmt.Fprintf(text, "  no longer needed: %s (--remove-leftovers deletes it)\n", object)
		}
	}
	for _, object := range t.StillNeeded {
		fmt.Fprintf(text, "  kept, because pods may use it: %s\n", object)
	}
	for _, warning := range t.Warnings {
		fmt.Fprintf(text, "  %s (%s): %s\n", warning.Field, warning.Class, warning.Note)
	}
	switch {
	case t.IsDeleted:
		text.WriteString("  The MCPServer is being deleted. Without the finalizer, its deletion completes, with that of its children.\n")
	case t.Unknown != "":
		fmt.Fprintf(text, "  What this operator then does is unknown: %s\n", t.Unknown)
	case t.Effects == nil:
		text.WriteString("  This operator does nothing for it until the refused fields are removed. Its pods keep running.\n")
	case len(t.Effects.Restarts) > 0 && t.Effects.OnDelete:
		fmt.Fprintf(text, "  Then a pod gets these changes when you delete it (updateStrategy OnDelete):\n    %s\n", strings.Join(t.Effects.Restarts, "\n    "))
	case len(t.Effects.Restarts) > 0:
		fmt.Fprintf(text, "  Then this operator restarts the pods, in a rolling update, because of:\n    %s\n", strings.Join(t.Effects.Restarts, "\n    "))
	case slices.ContainsFunc(t.Effects.Children, func(child childEffect) bool { return child.Action != plan.Refuse && child.Action != plan.Invalid }):
		text.WriteString("  Then this operator applies its fields. No pod restarts.\n")
	}
	if t.Effects != nil {
		for _, child := range t.Effects.Children {
			isNamed := slices.ContainsFunc(t.NotAdopted, func(object notAdopted) bool { return object.Object == child.Child })
			if (child.Action == plan.Refuse || child.Action == plan.Invalid) && !isNamed {
				fmt.Fprintf(text, "  This operator does not write %s: %s\n", child.Child, bounded(cmp.Or(child.Error, child.Reason)))
			}
		}
	}
	if t.Effects != nil && t.Effects.Scale != nil {
		fmt.Fprintf(text, "  Scale: %s\n", scaleText(t.Effects.Scale))
	}
	return text.String()
}
