package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/ownership"
)

// heldAnnotation records on an MCPServer what hold has replaced, for resume.
const heldAnnotation = "toolhive.stacklok.dev/held"

// heldByActionAnnotation is what the action hold of Argo CD records besides, because its scripts cannot parse heldAnnotation: see deploy/argocd.
const heldByActionAnnotation = "toolhive.stacklok.dev/held-by-action"

// held are the fields that hold replaces, and their owners.
type held struct {
	Replicas        *int32                         `json:"replicas,omitempty"`
	BackendReplicas *int32                         `json:"backendReplicas,omitempty"`
	Policy          v1beta1.ReplicasConflictPolicy `json:"replicasConflictPolicy,omitempty"`
	// Yielded is true if a number was declared, but another client had scaled the StatefulSet since.
	Yielded bool `json:"yielded,omitempty"`
	// Owners are the field managers of the replaced fields, by the name of the field in the spec of the MCPServer.
	Owners map[string][]formerOwner `json:"owners,omitempty"`
	// ScaleOwners are the field managers of the scale of the StatefulSet, except the operator.
	ScaleOwners []formerOwner `json:"scaleOwners,omitempty"`
}

// formerOwner is a field manager that hold takes a field from.
type formerOwner struct {
	Manager     string                            `json:"manager"`
	Operation   metav1.ManagedFieldsOperationType `json:"operation"`
	Subresource string                            `json:"subresource,omitempty"`
}

func (o formerOwner) manager() ownership.Manager {
	return ownership.Manager{Name: o.Manager, Operation: o.Operation, Subresource: o.Subresource}
}

// heldFields are the fields of the spec that hold replaces.
var heldFields = []string{"replicas", "backendReplicas", "replicasConflictPolicy"}

// self is this plugin as a field manager.
var self = ownership.Manager{Name: fieldManager, Operation: metav1.ManagedFieldsOperationUpdate}

// mostFormerOwners limits the annotation: anybody can add field managers to an object.
const mostFormerOwners = 10

func newHold(s *session) *cobra.Command {
	var replicas int32
	cmd := &cobra.Command{
		Use:   "hold NAME [--replicas N]",
		Short: "Declare the scale of an MCPServer and take it back from every other writer, until resume",
		Long: "Sets spec.replicas and replicasConflictPolicy: Force, so that the operator holds the scale. Without --replicas, the number does not change. " +
			"The annotation " + heldAnnotation + " records the previous values and their field managers for \"kubectl mcpserver resume\". " +
			"The command names the sources that still have replicas, and would declare their own number again.\n\n" +
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
	scalers, err := c.scalers(ctx, server)
	if err != nil {
		return err
	}
	for _, one := range scalers {
		switch {
		case one.isPaused:
		case one.ofServer:
			return fmt.Errorf("%s scales the MCPServer and would change the declaration. To pause it, run: %s", one.name, one.pause)
		default:
			return fmt.Errorf("%s scales the StatefulSet and would fight with the operator. To pause it, run: %s", one.name, one.pause)
		}
	}
	sources, err := sourcesOfReplicas(server) // before the patch, which removes the owners
	if err != nil {
		return err
	}
	before, err := heldBy(server, set)
	if err != nil {
		return err
	}
	wanted := ptr.Deref(replicas, observe.ReplicasOf(set))
	annotations := map[string]any{}
	if _, isHeld := server.Annotations[heldAnnotation]; !isHeld {
		recorded, err := json.Marshal(before)
		if err != nil {
			return fmt.Errorf("recording the present values: %w", err)
		}
		annotations[heldAnnotation] = string(recorded)
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
	for _, owner := range before.ScaleOwners {
		if owner.Operation == metav1.ManagedFieldsOperationApply {
			notes = append(notes, fmt.Sprintf("field manager %q applies the scale of the StatefulSet. When it applies its number again, the operator takes the scale back.", bounded(owner.Manager)))
		}
	}
	return s.printScaleOf(cmd, c, name, sources, "its next apply can take the number back. Remove it there, or pause it.", notes)
}

// heldBy returns the values that hold replaces, and their owners.
func heldBy(server *v1beta1.MCPServer, set *appsv1.StatefulSet) (*held, error) {
	owners, err := ownership.OwnersOf(set, observe.ReplicasPath)
	if err != nil {
		return nil, err
	}
	spec := &server.Spec
	before := &held{
		Replicas: spec.Replicas, BackendReplicas: spec.BackendReplicas, Policy: spec.ReplicasConflictPolicy,
		Yielded:     spec.DeclaredReplicas() != nil && !ownership.Owns(owners, observe.Self),
		ScaleOwners: formerOwners(owners, observe.Self), Owners: map[string][]formerOwner{},
	}
	for _, field := range heldFields {
		owners, err := ownership.OwnersOf(server, fieldpath.MakePathOrDie("spec", field))
		if err != nil {
			return nil, err
		}
		if former := formerOwners(owners, self); len(former) > 0 {
			before.Owners[field] = former
		}
	}
	return before, nil
}

// formerOwners returns owners without one manager.
func formerOwners(owners []ownership.Owner, without ownership.Manager) []formerOwner {
	var all []formerOwner
	for _, owner := range owners {
		if owner.Manager != without && len(all) < mostFormerOwners {
			all = append(all, formerOwner{Manager: owner.Name, Operation: owner.Operation, Subresource: owner.Subresource})
		}
	}
	return all
}

func newResume(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "End what hold has begun",
		Long: "Gives the scale and replicasConflictPolicy back to those who had them before \"kubectl mcpserver hold\". The number of pods does not change. " +
			"If the MCPServer declared a number, it declares the present number, and the field belongs to its former field managers: their next apply " +
			"sets their own number. If it declared none, or another client had scaled the server since, the operator gives up the scale, and the scale of the " +
			"StatefulSet belongs to its former field managers.",
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
	server, set, err := c.serverAndSet(cmd, name)
	if err != nil {
		return err
	}
	recorded, isHeld := server.Annotations[heldAnnotation]
	if !isHeld {
		return fmt.Errorf("MCPServer %q is not held: it has no annotation %s", server.Name, heldAnnotation)
	}
	var before held
	if err := json.Unmarshal([]byte(recorded), &before); err != nil {
		return fmt.Errorf("the annotation %s of MCPServer %q cannot be read (%w): set spec.replicas yourself, and remove the annotation", heldAnnotation, server.Name, err)
	}
	sources, err := sourcesOfReplicas(server) // before the patch, which removes the owners
	if err != nil {
		return err
	}
	spec, notes := before.resumed(observe.ReplicasOf(set))
	if err := c.mergePatch(ctx, server, map[string]any{heldAnnotation: nil, heldByActionAnnotation: nil}, spec); err != nil {
		return err
	}
	declares := spec["replicas"] != nil || spec["backendReplicas"] != nil
	waited, err := c.waitFor(ctx, server, func(_ *appsv1.StatefulSet, ours bool) bool { return ours == declares })
	if err != nil {
		return err
	}
	notes = append(notes, waited...)
	for _, field := range heldFields {
		if spec[field] != nil {
			notes = append(notes, c.giveBack(ctx, server, fieldpath.MakePathOrDie("spec", field), before.Owners[field])...)
		}
	}
	if !declares && len(waited) == 0 {
		notes = append(notes, c.giveBack(ctx, set, observe.ReplicasPath, before.ScaleOwners)...)
	}
	scalers, err := c.scalers(ctx, server)
	if err != nil && !apierrors.IsForbidden(err) { // the user may not list them: nothing can be said about them
		return err
	}
	for _, one := range scalers {
		if one.isPaused {
			notes = append(notes, one.name+" is still paused: undo what you did to pause it.")
		}
	}
	return s.printScaleOf(cmd, c, name, sources, declaresAgain, notes)
}

// resumed returns the fields of the spec that resume sets, so that the number of pods does not change, and what the user must know.
func (h *held) resumed(present int32) (spec map[string]any, notes []string) {
	spec = map[string]any{"replicas": nil, "backendReplicas": nil, "replicasConflictPolicy": nil}
	if h.Policy != "" {
		spec["replicasConflictPolicy"] = h.Policy
	}
	field, declared := "replicas", h.Replicas
	if declared == nil {
		field, declared = "backendReplicas", h.BackendReplicas
	}
	switch {
	case declared == nil:
	case h.Yielded:
		// To declare the number again would scale the server to it.
		notes = append(notes, fmt.Sprintf("spec.%s was %d, but another client had scaled the server since. It stays unset, so that the number does not change%s.",
			field, *declared, nextApplies(h.Owners[field])))
	default:
		spec[field] = present
		if h.Replicas != nil && h.BackendReplicas != nil {
			spec["backendReplicas"] = present // they were equal
		}
		if *declared != present {
			notes = append(notes, fmt.Sprintf("spec.%s was %d before. It stays %d, so that the number does not change%s.", field, *declared, present, nextApplies(h.Owners[field])))
		}
	}
	return spec, notes
}

// nextApplies returns what the former owners of a declaration do with their next apply.
func nextApplies(owners []formerOwner) string {
	if len(owners) == 0 {
		return ""
	}
	return ". The next apply of " + namesOfOwners(owners) + " declares the number of its own manifest"
}

func namesOfOwners(owners []formerOwner) string {
	names := make([]string, len(owners))
	for i, owner := range owners {
		names[i] = fmt.Sprintf("%q", bounded(owner.Manager))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// giveBack makes the former owners of a field the owners again. Nobody but this plugin may own the field. It returns what the user must know.
func (c *connection) giveBack(ctx context.Context, object client.Object, path fieldpath.Path, former []formerOwner) []string {
	if len(former) == 0 {
		return nil
	}
	var taken []string // by somebody else, in the meantime
	isGiven := false
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return fmt.Errorf("reading %s: %w", textOf(object), err)
		}
		owners, err := ownership.OwnersOf(object, path)
		if err != nil {
			return err
		}
		taken = nil
		for _, owner := range formerOwners(owners, self) {
			if !slices.Contains(former, owner) {
				taken = append(taken, fmt.Sprintf("%q", bounded(owner.Manager)))
			}
		}
		isGiven = !ownership.Owns(owners, self) && len(formerOwners(owners, self)) == len(former)
		if len(taken) > 0 || isGiven {
			return nil
		}
		kind, err := c.GroupVersionKindFor(object)
		if err != nil {
			return fmt.Errorf("finding the kind of %s: %w", textOf(object), err)
		}
		from := []ownership.Manager{self}
		for _, owner := range former {
			to := owner.manager()
			patch, err := ownership.Move(object, from, &to, kind.GroupVersion().String(), fieldpath.NewSet(path))
			if err != nil {
				return err
			}
			if err := c.patchObject(ctx, object, patch); err != nil {
				return err
			}
			from = nil
		}
		return nil
	})
	switch {
	case isGiven:
		return nil // hold did not change the value, and so took no ownership
	case len(taken) > 0:
		return []string{fmt.Sprintf("%s of %s now belongs to %s, and so it was not given back to %s.", path, textOf(object), strings.Join(taken, ", "), namesOfOwners(former))}
	case err != nil:
		return []string{fmt.Sprintf("%s of %s was not given back to %s: %s", path, textOf(object), namesOfOwners(former), bounded(err.Error()))}
	default:
		return []string{fmt.Sprintf("%s of %s belongs to %s again.", path, textOf(object), namesOfOwners(former))}
	}
}
