package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/reconcile/scale"
)

// heldAnnotation records on an MCPServer what hold has replaced, for resume.
const heldAnnotation = "toolhive.stacklok.dev/held"

// held are the fields that hold replaces.
type held struct {
	Replicas        *int32                         `json:"replicas,omitempty"`
	BackendReplicas *int32                         `json:"backendReplicas,omitempty"`
	Policy          v1beta1.ReplicasConflictPolicy `json:"replicasConflictPolicy,omitempty"`
	// Yielded is true if a number was declared, but another client had scaled the StatefulSet since.
	Yielded bool `json:"yielded,omitempty"`
}

// waitAtMost is how long a command waits for the operator.
const waitAtMost = 30 * time.Second

// scaleResult is the result of a command that changes the owner of a scale.
type scaleResult struct {
	Server   string   `json:"server"`
	Replicas int32    `json:"replicas"`
	Owner    string   `json:"owner"`
	Sources  []source `json:"sources,omitempty"`
	// Notes are what the user must know or do.
	Notes []string `json:"notes,omitempty"`
}

func (r *scaleResult) text() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s: the scale is %d and belongs to %s.\n", r.Server, r.Replicas, scale.Describe(r.Owner))
	for _, note := range r.Notes {
		fmt.Fprintf(text, "  %s\n", note)
	}
	text.WriteString(warningAbout(r.Sources))
	return text.String()
}

func newHold(s *session) *cobra.Command {
	var replicas int32
	cmd := &cobra.Command{
		Use:   "hold NAME [--replicas N]",
		Short: "Declare the scale of an MCPServer and take it back from every other writer, until resume",
		Long: "Sets spec.replicas and replicasConflictPolicy: Force, so that the operator holds the scale. Without --replicas, the number does not change. " +
			"The annotation " + heldAnnotation + " records the previous values for \"kubectl mcpserver resume\".\n\n" +
			"An autoscaler of the StatefulSet would fight: the command refuses, and prints how to pause the autoscaler.",
		Example: "  kubectl mcpserver hold web\n  kubectl mcpserver hold web --replicas 5",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			var wanted *int32
			if cmd.Flags().Changed("replicas") {
				wanted = &replicas
			}
			return s.hold(cmd, c, args[0], wanted)
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().Int32Var(&replicas, "replicas", 0, "the number of pods; if unset, the present number")
	return cmd
}

func (s *session) hold(cmd *cobra.Command, c *connection, name string, replicas *int32) error {
	ctx := cmd.Context()
	server, set, err := c.serverAndSet(cmd, name)
	if err != nil {
		return err
	}
	if replicas != nil && *replicas < 0 {
		return fmt.Errorf("--replicas is %d: it must be at least 0", *replicas)
	}
	autoscalers, err := c.autoscalers(ctx, server)
	if err != nil {
		return err
	}
	for i := range autoscalers.OfStatefulSet {
		if hpa := &autoscalers.OfStatefulSet[i]; !isPaused(hpa) {
			return fmt.Errorf("%s scales the StatefulSet and would fight with the operator. To pause it, run: %s", scale.AutoscalerName(hpa), pauseCommand(hpa))
		}
	}
	for i := range autoscalers.OfMCPServer {
		if hpa := &autoscalers.OfMCPServer[i]; !isPaused(hpa) {
			return fmt.Errorf("%s scales the MCPServer and would change the declaration. To pause it, run: %s", scale.AutoscalerName(hpa), pauseCommand(hpa))
		}
	}
	sources, err := sourcesOfReplicas(server) // before the patch, which removes the owners
	if err != nil {
		return err
	}
	wanted := ptr.Deref(replicas, observe.ReplicasOf(set))
	spec := &server.Spec
	annotations := map[string]any{}
	if _, isHeld := server.Annotations[heldAnnotation]; !isHeld {
		owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
		if err != nil {
			return err
		}
		before, err := json.Marshal(held{
			Replicas: spec.Replicas, BackendReplicas: spec.BackendReplicas, Policy: spec.ReplicasConflictPolicy,
			Yielded: spec.DeclaredReplicas() != nil && !ownership.Owns(owners, observe.Self),
		})
		if err != nil {
			return fmt.Errorf("recording the present values: %w", err)
		}
		annotations[heldAnnotation] = string(before)
	}
	err = c.mergePatch(ctx, server, annotations, map[string]any{
		"replicas": wanted, "backendReplicas": nil, "replicasConflictPolicy": v1beta1.ReplicasConflictForce,
	})
	if err != nil {
		return err
	}
	notes, err := c.waitFor(ctx, server, func(set *appsv1.StatefulSet, ours bool) bool { return ours && observe.ReplicasOf(set) == wanted })
	if err != nil {
		return err
	}
	return s.printScaleOf(cmd, c, name, sources, notes)
}

func newResume(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "End what hold has begun",
		Long: "Restores spec.replicas and replicasConflictPolicy as they were before \"kubectl mcpserver hold\". If spec.replicas was unset, or another client had " +
			"scaled the server since it was set, the operator gives up the scale; the number does not change.",
		Example: "  kubectl mcpserver resume web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			return s.resume(cmd, c, args[0])
		},
		ValidArgsFunction: s.completeServers,
	}
}

func (s *session) resume(cmd *cobra.Command, c *connection, name string) error {
	ctx := cmd.Context()
	server, err := c.server(cmd, name)
	if err != nil {
		return err
	}
	recorded, isHeld := server.Annotations[heldAnnotation]
	if !isHeld {
		return fmt.Errorf("MCPServer %q is not held: it has no annotation %s", name, heldAnnotation)
	}
	sources, err := sourcesOfReplicas(server) // before the patch, which removes the owners
	if err != nil {
		return err
	}
	var before held
	if err := json.Unmarshal([]byte(recorded), &before); err != nil {
		return fmt.Errorf("the annotation %s of MCPServer %q cannot be read (%w): set spec.replicas yourself, and remove the annotation", heldAnnotation, name, err)
	}
	spec := map[string]any{"replicas": nil, "backendReplicas": nil, "replicasConflictPolicy": nil}
	var notes []string
	if declared := cmp.Or(before.Replicas, before.BackendReplicas); before.Yielded && declared != nil {
		// To declare the number again would scale the server to it.
		notes = append(notes, fmt.Sprintf("spec.replicas was %d, but another client had scaled the server since. It stays unset, so that the number does not change.", *declared))
		before.Replicas, before.BackendReplicas = nil, nil
	}
	if before.Replicas != nil {
		spec["replicas"] = *before.Replicas
	}
	if before.BackendReplicas != nil {
		spec["backendReplicas"] = *before.BackendReplicas
	}
	if before.Policy != "" {
		spec["replicasConflictPolicy"] = before.Policy
	}
	if err := c.mergePatch(ctx, server, map[string]any{heldAnnotation: nil}, spec); err != nil {
		return err
	}
	declares := before.Replicas != nil || before.BackendReplicas != nil
	waited, err := c.waitFor(ctx, server, func(_ *appsv1.StatefulSet, ours bool) bool { return ours == declares })
	if err != nil {
		return err
	}
	notes = append(notes, waited...)
	autoscalers, err := c.autoscalers(ctx, server)
	if err != nil && !apierrors.IsForbidden(err) { // the user may not list them: nothing can be said about them
		return err
	}
	for i := range autoscalers.OfStatefulSet {
		if hpa := &autoscalers.OfStatefulSet[i]; isPaused(hpa) {
			notes = append(notes, scale.AutoscalerName(hpa)+" is still paused: undo what you did to pause it.")
		}
	}
	return s.printScaleOf(cmd, c, name, sources, notes)
}

// handOverScale gives the scale of an MCPServer to another owner.
func (s *session) handOverScale(cmd *cobra.Command, c *connection, name, to string) error {
	ctx := cmd.Context()
	server, set, err := c.serverAndSet(cmd, name)
	if err != nil {
		return err
	}
	var notes []string
	if to == "hpa" {
		autoscalers, err := c.autoscalers(ctx, server)
		if err != nil {
			return err
		}
		if notes, err = notesAbout(server, autoscalers, observe.ReplicasOf(set)); err != nil {
			return err
		}
	}
	sources, err := sourcesOfReplicas(server) // before the patch, which removes the owners
	if err != nil {
		return err
	}
	if server.Spec.DeclaredReplicas() != nil {
		if err := c.mergePatch(ctx, server, nil, map[string]any{"replicas": nil, "backendReplicas": nil}); err != nil {
			return err
		}
	}
	waited, err := c.waitFor(ctx, server, func(_ *appsv1.StatefulSet, ours bool) bool { return !ours })
	if err != nil {
		return err
	}
	notes = append(notes, waited...)
	if len(waited) > 0 && to != "hpa" && to != nobody {
		return fmt.Errorf("the scale does not belong to %q yet: %s Then run the command again", to, strings.Join(waited, " "))
	}
	if len(waited) == 0 && to != "hpa" {
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return c.moveScale(ctx, server, to) })
		if err != nil {
			return fmt.Errorf("moving the ownership of the scale: %w", err)
		}
	}
	return s.printScaleOf(cmd, c, name, sources, notes)
}

// notesAbout returns what the user must know about the autoscaler that gets the scale. It fails unless exactly one autoscaler scales the StatefulSet.
func notesAbout(server *v1beta1.MCPServer, autoscalers observe.Autoscalers, replicas int32) ([]string, error) {
	if len(autoscalers.OfMCPServer) > 0 {
		return nil, fmt.Errorf("%s targets the MCPServer, not the StatefulSet: change its spec.scaleTargetRef to apps/v1 StatefulSet %q first",
			scale.AutoscalerName(&autoscalers.OfMCPServer[0]), applyconfigs.StatefulSetName(server.Name))
	}
	switch len(autoscalers.OfStatefulSet) {
	case 0:
		return nil, fmt.Errorf("no HorizontalPodAutoscaler targets StatefulSet %q: create one first, or use --to nobody", applyconfigs.StatefulSetName(server.Name))
	case 1:
	default:
		return nil, fmt.Errorf("%d autoscalers target StatefulSet %q: delete all but one", len(autoscalers.OfStatefulSet), applyconfigs.StatefulSetName(server.Name))
	}
	hpa := &autoscalers.OfStatefulSet[0]
	name, least, most := scale.AutoscalerName(hpa), ptr.Deref(hpa.Spec.MinReplicas, 1), hpa.Spec.MaxReplicas
	switch {
	case isPaused(hpa):
		return []string{name + " is paused. The number stays until you resume it."}, nil
	case replicas == 0:
		return []string{name + " does not scale up from a 0 that it has not written itself: scale to at least 1."}, nil
	case replicas < least || replicas > most:
		return []string{fmt.Sprintf("%s allows %d to %d. It will change the number.", name, least, most)}, nil
	default:
		return []string{name + " owns the scale when it next writes it."}, nil
	}
}

// moveScale makes a field manager the only owner of the scale of the StatefulSet, or nobody.
func (c *connection) moveScale(ctx context.Context, server *v1beta1.MCPServer, to string) error {
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: server.Namespace, Name: applyconfigs.StatefulSetName(server.Name)}
	if err := c.Get(ctx, key, set); err != nil {
		return fmt.Errorf("reading the StatefulSet: %w", err)
	}
	owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
	if err != nil {
		return err
	}
	var from []ownership.Manager
	for _, owner := range owners {
		from = append(from, owner.Manager)
	}
	var receiver *ownership.Manager
	if to != nobody {
		if receiver, err = receiverNamed(set, to); err != nil {
			return err
		}
	} else if len(from) == 0 {
		return nil
	}
	patch, err := ownership.Move(set, from, receiver, appsv1.SchemeGroupVersion.String(), fieldpath.NewSet(observe.ReplicasPath))
	if err != nil {
		return err
	}
	return c.patchObject(ctx, set, patch)
}

// serverAndSet reads an MCPServer and its StatefulSet.
func (c *connection) serverAndSet(cmd *cobra.Command, name string) (*v1beta1.MCPServer, *appsv1.StatefulSet, error) {
	server, err := c.server(cmd, name)
	if err != nil {
		return nil, nil, err
	}
	if server.Spec.Suspend {
		return nil, nil, fmt.Errorf("MCPServer %q is suspended, so that the operator writes nothing: remove spec.suspend first", server.Name)
	}
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: server.Namespace, Name: applyconfigs.StatefulSetName(server.Name)}
	if err := c.Get(cmd.Context(), key, set); err != nil {
		return nil, nil, fmt.Errorf("reading the StatefulSet of MCPServer %q: %w", server.Name, err)
	}
	if !metav1.IsControlledBy(set, server) {
		return nil, nil, fmt.Errorf("MCPServer %q does not control StatefulSet %q, so that its scale is not that of the MCPServer", server.Name, set.Name)
	}
	return server, set, nil
}

// mergePatch changes annotations and the spec of an MCPServer in the generation that was read. Null removes a value.
func (c *connection) mergePatch(ctx context.Context, server *v1beta1.MCPServer, annotations, spec map[string]any) error {
	key, uid, generation := client.ObjectKeyFromObject(server), server.UID, server.Generation
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if server.UID != uid || server.Generation != generation {
			return fmt.Errorf("MCPServer %q has changed in the meantime: run the command again", server.Name)
		}
		metadata := map[string]any{"resourceVersion": server.ResourceVersion}
		if len(annotations) > 0 {
			metadata["annotations"] = annotations
		}
		changes := map[string]any{"metadata": metadata}
		if len(spec) > 0 {
			changes["spec"] = spec
		}
		patch, err := json.Marshal(changes)
		if err != nil {
			return err
		}
		err = c.Patch(ctx, server, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager))
		if apierrors.IsConflict(err) { // the status may have changed
			return errors.Join(err, c.Get(ctx, key, server))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("patching MCPServer %q: %w", key.Name, err)
	}
	return nil
}

// waitFor waits until the operator has carried out a change. Ours is true if the operator owns the scale. If it does not within waitAtMost, it
// returns a note.
func (c *connection) waitFor(ctx context.Context, server *v1beta1.MCPServer, done func(set *appsv1.StatefulSet, ours bool) bool) ([]string, error) {
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, waitAtMost, true, func(ctx context.Context) (bool, error) {
		set := &appsv1.StatefulSet{}
		err := c.Get(ctx, client.ObjectKey{Namespace: server.Namespace, Name: applyconfigs.StatefulSetName(server.Name)}, set)
		if err != nil {
			return false, client.IgnoreNotFound(err)
		}
		owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
		return err == nil && done(set, ownership.Owns(owners, observe.Self)), err
	})
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return []string{fmt.Sprintf("The operator has not carried it out within %s. It does so when it runs; see the conditions of the MCPServer.", waitAtMost)}, nil
	default:
		return nil, fmt.Errorf("waiting for the operator: %w", err)
	}
}

// printScaleOf prints the owner of the scale, and the sources that had replicas before the command.
func (s *session) printScaleOf(cmd *cobra.Command, c *connection, name string, sources []source, notes []string) error {
	server, set, err := c.serverAndSet(cmd, name)
	if err != nil {
		return err
	}
	owner, err := c.scaleOwner(cmd.Context(), server, set)
	if err != nil {
		return err
	}
	result := &scaleResult{
		Server: client.ObjectKeyFromObject(server).String(), Replicas: observe.ReplicasOf(set), Owner: owner, Sources: sources, Notes: notes,
	}
	return s.print(result, result.text)
}

// scaleOwner returns the owner of the scale, as in status.scale.owner.
func (c *connection) scaleOwner(ctx context.Context, server *v1beta1.MCPServer, set *appsv1.StatefulSet) (string, error) {
	owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
	if err != nil {
		return "", err
	}
	autoscalers, err := c.autoscalers(ctx, server)
	if err != nil && !apierrors.IsForbidden(err) { // without the autoscalers, the name of the manager is shown
		return "", err
	}
	return scale.OwnerName(scale.Owners(owners).Current(server.Status.Scale), observe.ReplicasOf(set), autoscalers.OfStatefulSet), nil
}

// isPaused reports whether an autoscaler does not scale, because both directions are disabled. KEDA deletes the autoscaler of a paused ScaledObject.
func isPaused(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	disabled := func(rules *autoscalingv2.HPAScalingRules) bool {
		return rules != nil && ptr.Deref(rules.SelectPolicy, "") == autoscalingv2.DisabledPolicySelect
	}
	return hpa.Spec.Behavior != nil && disabled(hpa.Spec.Behavior.ScaleUp) && disabled(hpa.Spec.Behavior.ScaleDown)
}

// pauseCommand returns the command that pauses an autoscaler.
func pauseCommand(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if scale.IsOfKEDA(hpa) {
		_, name, _ := strings.Cut(scale.AutoscalerName(hpa), "/")
		if len(validation.IsDNS1123Subdomain(name)) > 0 { // the API server does not check the names in owner references
			name = "NAME"
		}
		return fmt.Sprintf("kubectl -n %s annotate scaledobject %s autoscaling.keda.sh/paused=true", hpa.Namespace, name)
	}
	return fmt.Sprintf(`kubectl -n %s patch hpa %s --type=merge -p '{"spec":{"behavior":{"scaleUp":{"selectPolicy":"Disabled"},"scaleDown":{"selectPolicy":"Disabled"}}}}'`,
		hpa.Namespace, hpa.Name)
}
