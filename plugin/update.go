package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

type updateOptions struct {
	all, dryRun, wait bool
	timeout           time.Duration
}

// update is what an update does for one MCPServer.
type update struct {
	Server string `json:"server"`
	// From is the version of the pod template that the pods run. To is the version that the operator has, and has not applied; empty if there is
	// nothing to update.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Pods are the pods that restart, in their order.
	Pods []string `json:"pods,omitempty"`
	// OnDelete is true if the update strategy is OnDelete: then a pod restarts when somebody deletes it.
	OnDelete bool `json:"onDelete,omitempty"`
	// Fields are the changed fields of the pod template. They restart the pods.
	Fields []string `json:"fields,omitempty"`
	// Message is what the operator says of the update, if this plugin cannot plan for it.
	Message string `json:"message,omitempty"`
	// Suspended is true if the MCPServer is suspended. Then nothing is requested.
	Suspended bool `json:"suspended,omitempty"`
	// Requested is true if the operator was asked to apply the pod template.
	Requested bool `json:"requested,omitempty"`

	server *v1beta1.MCPServer
}

func newUpdate(s *session) *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "update NAME | -A",
		Short: "Let the operator apply its present pod template, which restarts the pods",
		Long: "An upgrade of the operator restarts no pods: an MCPServer whose pod template would change has the condition UpdateAvailable. This command shows which " +
			"pods restart and why, and asks the operator to apply its pod template, with its runner, by the annotation " + v1beta1.UpdatePodTemplateAnnotation + ".\n\n" +
			"With --wait, it waits for the rollout of each MCPServer before it begins with the next. The command can be stopped and repeated at any time.\n\n" +
			"Exit codes: 1 if --dry-run has found an update.",
		Example: "  kubectl mcpserver update web --dry-run\n  kubectl mcpserver update web --wait\n  kubectl mcpserver update -A --wait",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == o.all {
				return errors.New("update requires either the name of an MCPServer or --all-namespaces")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			return s.update(cmd, c, args, o)
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "update the MCPServers of all namespaces")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only print what would restart")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait for the rollout")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long --wait waits for each rollout")
	return cmd
}

func (s *session) update(cmd *cobra.Command, c *connection, names []string, o updateOptions) error {
	ctx := cmd.Context()
	servers, err := c.serversToUpdate(cmd, names)
	if err != nil {
		return err
	}
	canPlan := true
	if err := s.checkVersion(ctx, c); err != nil {
		s.warn("Warning: %v. The reasons for the restarts are those that the operator has written.", err)
		canPlan = false
	}
	updates := []*update{}
	found := false
	for i := range servers {
		if o.all && !servers[i].DeletionTimestamp.IsZero() {
			continue // the operator does not update it any more
		}
		one, err := c.updateOf(ctx, &servers[i], canPlan)
		if err != nil {
			return err
		}
		if one.To == "" && len(names) == 0 {
			continue
		}
		one.Requested = one.To != "" && !one.Suspended && !o.dryRun
		found = found || one.To != ""
		updates = append(updates, one)
	}
	// What restarts is shown before it does.
	if err := s.print(updates, func() string { return updatesText(updates, o) }); err != nil {
		return err
	}
	if o.dryRun {
		if found {
			return errFound
		}
		return nil
	}
	var failed error // an MCPServer that cannot be updated does not stop the others
	for _, one := range updates {
		if !one.Requested {
			continue
		}
		err := s.carryOut(ctx, c, one, o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if apierrors.IsNotFound(err) && o.all {
			continue // it was deleted in the meantime
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("MCPServer %s: %w", one.Server, err))
		}
	}
	return failed
}

// serversToUpdate returns the MCPServer with a name, or all if there is none.
func (c *connection) serversToUpdate(cmd *cobra.Command, names []string) ([]v1beta1.MCPServer, error) {
	if len(names) > 0 {
		server, err := c.server(cmd, names[0])
		if err != nil {
			return nil, err
		}
		return []v1beta1.MCPServer{*server}, nil
	}
	var list v1beta1.MCPServerList
	if err := c.List(cmd.Context(), &list); err != nil {
		return nil, fmt.Errorf("listing the MCPServers: %w", err)
	}
	return list.Items, nil
}

// updateOf returns the update of an MCPServer. It changes nothing.
func (c *connection) updateOf(ctx context.Context, server *v1beta1.MCPServer, canPlan bool) (*update, error) {
	found := &update{Server: client.ObjectKeyFromObject(server).String(), Suspended: server.Spec.Suspend, server: server}
	condition := apimeta.FindStatusCondition(server.Status.Conditions, v1beta1.ConditionUpdateAvailable)
	if condition == nil && !found.Suspended { // of a suspended MCPServer, the status does not say it
		return found, nil
	}
	set, err := c.setOf(ctx, server)
	if apierrors.IsNotFound(err) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	offered, isOffered := applyconfigs.TemplateRecordIn(set.Annotations, v1beta1.PodTemplateUpdateAnnotation)
	if !isOffered {
		return found, nil
	}
	running, _ := applyconfigs.TemplateRecordIn(set.Annotations, v1beta1.PodTemplateAnnotation)
	found.From, found.To = running.Version(), offered.Version()
	found.Pods, found.OnDelete = restartingPods(set)
	if found.Suspended {
		return found, nil
	}
	if found.Fields, err = c.updatedFields(ctx, server, found.To, canPlan); err != nil {
		return nil, err
	}
	if found.Fields == nil {
		found.Message = bounded(condition.Message)
	}
	return found, nil
}

// updatedFields returns the fields that the pod template of a version changes; nil if this plugin cannot plan for the version.
func (c *connection) updatedFields(ctx context.Context, server *v1beta1.MCPServer, version string, canPlan bool) ([]string, error) {
	if !canPlan {
		return nil, nil
	}
	preview, err := c.preview(ctx, c.WithWatch, server)
	switch {
	case apierrors.IsForbidden(err): // the plan sends dry-run requests
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("planning for MCPServer %q: %w", server.Name, err)
	case preview.Update == nil || preview.Update.To != version: // the operator has another runner, for example
		return nil, nil
	default:
		return preview.Update.Fields, nil
	}
}

// restartingPods returns the pods that another pod template restarts, in their order, and whether each restarts only when somebody deletes it.
func restartingPods(set *appsv1.StatefulSet) (pods []string, onDelete bool) {
	var first int32
	if ordinals := set.Spec.Ordinals; ordinals != nil {
		first = ordinals.Start
	}
	last := first + observe.ReplicasOf(set) - 1
	for ordinal := last; ordinal >= max(first, partitionOf(set)); ordinal-- {
		pods = append(pods, fmt.Sprintf("%s-%d", set.Name, ordinal))
	}
	return pods, set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
}

// partitionOf returns the lowest ordinal that a rolling update replaces.
func partitionOf(set *appsv1.StatefulSet) int32 {
	if rolling := set.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		return ptr.Deref(rolling.Partition, 0)
	}
	return 0
}

// carryOut asks the operator to apply its pod template, and waits until it has.
func (s *session) carryOut(ctx context.Context, c *connection, one *update, o updateOptions) error {
	if err := c.Get(ctx, client.ObjectKeyFromObject(one.server), one.server); err != nil { // with --wait, the plan may be old
		return fmt.Errorf("reading it: %w", err)
	}
	if err := c.mergePatch(ctx, one.server, map[string]any{v1beta1.UpdatePodTemplateAnnotation: one.To}, nil); err != nil {
		return err
	}
	var set *appsv1.StatefulSet
	is := func(done func() bool) wait.ConditionWithContextFunc {
		return func(ctx context.Context) (bool, error) {
			var err error
			if set, err = c.setOf(ctx, one.server); err != nil {
				return false, client.IgnoreNotFound(err)
			}
			return done(), nil
		}
	}
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, waitAtMost, true, is(func() bool {
		running, _ := applyconfigs.TemplateRecordIn(set.Annotations, v1beta1.PodTemplateAnnotation)
		return running.Version() == one.To
	}))
	if err != nil {
		return fmt.Errorf("the operator has not applied the pod template within %s. It does so when it runs; see the conditions of the MCPServer: %w", waitAtMost, err)
	}
	s.warn("MCPServer %s: the operator has applied the pod template %s.", one.Server, one.To)
	if !o.wait || one.OnDelete {
		return nil
	}
	if err := wait.PollUntilContextTimeout(ctx, time.Second, o.timeout, true, is(func() bool { return isRolledOut(set) })); err != nil {
		return fmt.Errorf("the rollout has not ended within %s: %d of %d pods are updated, %d are ready: %w",
			o.timeout, set.Status.UpdatedReplicas, observe.ReplicasOf(set), set.Status.ReadyReplicas, err)
	}
	s.warn("MCPServer %s: the rollout has ended.", one.Server)
	return nil
}

// isRolledOut reports whether all pods that a rolling update replaces have the present pod template, and all pods are ready.
func isRolledOut(set *appsv1.StatefulSet) bool {
	pods, _ := restartingPods(set)
	status := set.Status
	return status.ObservedGeneration >= set.Generation && int(status.UpdatedReplicas) >= len(pods) && status.ReadyReplicas == observe.ReplicasOf(set)
}

func updatesText(updates []*update, o updateOptions) string {
	if len(updates) == 0 {
		return "No MCPServer has an update.\n"
	}
	text := &strings.Builder{}
	for _, one := range updates {
		switch {
		case one.To == "":
			fmt.Fprintf(text, "MCPServer %s: no update is available.\n", one.Server)
			continue
		case one.Suspended:
			fmt.Fprintf(text, "MCPServer %s: not updated, because it is suspended. Update it when it is resumed.\n", one.Server)
			continue
		case o.dryRun:
			fmt.Fprintf(text, "MCPServer %s: would be updated from pod template %s to %s.\n", one.Server, one.From, one.To)
		default:
			fmt.Fprintf(text, "MCPServer %s: update from pod template %s to %s.\n", one.Server, one.From, one.To)
		}
		switch {
		case len(one.Pods) == 0:
			text.WriteString("  No pod restarts.\n")
		case one.OnDelete:
			fmt.Fprintf(text, "  A pod gets the pod template when you delete it (updateStrategy OnDelete): %s\n", podsText(one.Pods))
		default:
			fmt.Fprintf(text, "  Pods restart, in a rolling update: %s\n", podsText(one.Pods))
		}
		if one.Message != "" {
			fmt.Fprintf(text, "  Why: %s\n", one.Message)
		} else {
			fmt.Fprintf(text, "  Because of:\n    %s\n", strings.Join(one.Fields, "\n    "))
		}
	}
	return text.String()
}

// podsText names pods in a few words, however many there are.
func podsText(pods []string) string {
	const most = 5
	if len(pods) <= most {
		return strings.Join(pods, ", ")
	}
	return fmt.Sprintf("%s to %s, %d pods", pods[0], pods[len(pods)-1], len(pods))
}
