package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	// way is in which way the sources declare the number again.
	way string
}

// declaresAgain is what a source that has replicas does after the MCPServer has given up its declaration.
const declaresAgain = "remove it there, or it is declared again."

func (r *scaleResult) text() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s: the scale is %d and belongs to %s.\n", r.Server, r.Replicas, scale.Describe(r.Owner))
	for _, note := range r.Notes {
		fmt.Fprintf(text, "  %s\n", note)
	}
	text.WriteString(warningAbout(r.Sources, r.way))
	return text.String()
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
		scalers, err := c.scalers(ctx, server)
		if err != nil {
			return err
		}
		if notes, err = notesAbout(server, scalers, observe.ReplicasOf(set)); err != nil {
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
	return s.printScaleOf(cmd, c, name, sources, declaresAgain, notes)
}

// notesAbout returns what the user must know about the autoscaler that gets the scale. It fails unless exactly one autoscaler scales the StatefulSet.
func notesAbout(server *v1beta1.MCPServer, scalers []scaler, replicas int32) ([]string, error) {
	var ofSet []scaler
	for _, one := range scalers {
		if one.ofServer {
			return nil, fmt.Errorf("%s targets the MCPServer, not the StatefulSet: change its spec.scaleTargetRef to apps/v1 StatefulSet %q first",
				one.name, applyconfigs.StatefulSetName(server.Name))
		}
		ofSet = append(ofSet, one)
	}
	switch len(ofSet) {
	case 0:
		return nil, fmt.Errorf("no HorizontalPodAutoscaler targets StatefulSet %q: create one first, or use --to nobody", applyconfigs.StatefulSetName(server.Name))
	case 1:
	default:
		return nil, fmt.Errorf("%d autoscalers target StatefulSet %q: delete all but one", len(ofSet), applyconfigs.StatefulSetName(server.Name))
	}
	name, hpa := ofSet[0].name, ofSet[0].hpa
	switch {
	case ofSet[0].isPaused:
		return []string{name + " is paused. The number stays until you resume it."}, nil
	case hpa == nil:
		return []string{name + " has no HorizontalPodAutoscaler yet. KEDA creates it, and owns the scale when it next writes it."}, nil
	case replicas == 0 && !scale.IsOfKEDA(hpa): // KEDA itself scales up from 0
		return []string{name + " does not scale up from a 0 that it has not written itself: scale to at least 1."}, nil
	case replicas < ptr.Deref(hpa.Spec.MinReplicas, 1) || replicas > hpa.Spec.MaxReplicas:
		return []string{fmt.Sprintf("%s allows %d to %d. It will change the number.", name, ptr.Deref(hpa.Spec.MinReplicas, 1), hpa.Spec.MaxReplicas)}, nil
	default:
		return []string{name + " owns the scale when it next writes it."}, nil
	}
}

// moveScale makes a field manager the only owner of the scale of the StatefulSet, or nobody.
func (c *connection) moveScale(ctx context.Context, server *v1beta1.MCPServer, to string) error {
	set, err := c.setOf(ctx, server)
	if err != nil {
		return err
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
	set, err := c.setOf(cmd.Context(), server)
	if err != nil {
		return nil, nil, err
	}
	if !metav1.IsControlledBy(set, server) {
		return nil, nil, fmt.Errorf("MCPServer %q does not control StatefulSet %q, so that its scale is not that of the MCPServer", server.Name, set.Name)
	}
	return server, set, nil
}

// setOf reads the StatefulSet of an MCPServer.
func (c *connection) setOf(ctx context.Context, server *v1beta1.MCPServer) (*appsv1.StatefulSet, error) {
	set := &appsv1.StatefulSet{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: server.Namespace, Name: applyconfigs.StatefulSetName(server.Name)}, set); err != nil {
		return nil, fmt.Errorf("reading the StatefulSet of MCPServer %q: %w", server.Name, err)
	}
	return set, nil
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
		set, err := c.setOf(ctx, server)
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
func (s *session) printScaleOf(cmd *cobra.Command, c *connection, name string, sources []source, way string, notes []string) error {
	server, set, err := c.serverAndSet(cmd, name)
	if err != nil {
		return err
	}
	owner, err := c.scaleOwner(cmd.Context(), server, set)
	if err != nil {
		return err
	}
	result := &scaleResult{
		Server: client.ObjectKeyFromObject(server).String(), Replicas: observe.ReplicasOf(set), Owner: owner, Sources: sources, Notes: notes, way: way,
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
