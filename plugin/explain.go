package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/scale"
)

// explanation is who owns what of an MCPServer and its children.
type explanation struct {
	Server string `json:"server"`
	// Sources are the tools that the MCPServer comes from.
	Sources  []source             `json:"sources,omitempty"`
	Scale    *scaleExplanation    `json:"scale,omitempty"`
	Children []childOfExplanation `json:"children"`
	// Unread is what the user may not read.
	Unread []string `json:"unread,omitempty"`
}

// scaleExplanation is why the scale is what it is.
type scaleExplanation struct {
	Replicas int32  `json:"replicas"`
	Owner    string `json:"owner"`
	// Since is when the status recorded this owner.
	Since    *metav1.Time `json:"since,omitempty"`
	Declared *int32       `json:"declared,omitempty"`
	// Why is the decision of the operator.
	Why         string   `json:"why"`
	Autoscalers []string `json:"autoscalers,omitempty"`
	// Transfers are the last changes of the owner.
	Transfers []v1beta1.ScaleTransfer `json:"transfers,omitempty"`
}

// childOfExplanation are the owners of a child.
type childOfExplanation struct {
	Child string `json:"child"`
	// NotControlled is true if the MCPServer does not control the object.
	NotControlled bool          `json:"notControlled,omitempty"`
	Sources       []source      `json:"sources,omitempty"`
	Fields        []fieldOwners `json:"fields"`
}

func newExplain(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "explain NAME",
		Short: "Show the owners of all fields of an MCPServer's children, and why the scale is what it is",
		Long: "Shows every field of every child of an MCPServer with all its owners, the tools that the objects come from, by their labels and annotations, " +
			"and why the scale is what it is. It only reads, and leaves out what you may not read.",
		Example: "  kubectl mcpserver explain web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			server, err := c.server(cmd, args[0])
			if err != nil {
				return err
			}
			found, err := c.explain(cmd.Context(), server)
			if err != nil {
				return err
			}
			return s.print(found, func() string { return explanationText(found) })
		},
		ValidArgsFunction: s.completeServers,
	}
}

func (c *connection) explain(ctx context.Context, server *v1beta1.MCPServer) (*explanation, error) {
	found := &explanation{
		Server: client.ObjectKeyFromObject(server).String(), Sources: sourcesOf(server, serverKind), Children: []childOfExplanation{},
	}
	name := server.Name
	for _, child := range []client.Object{
		named(applyconfigs.StatefulSetName(name), &appsv1.StatefulSet{}),
		named(applyconfigs.ClientServiceName(name), &corev1.Service{}),
		named(applyconfigs.HeadlessServiceName(name), &corev1.Service{}),
		named(applyconfigs.ServiceAccountName(name), &corev1.ServiceAccount{}),
		named(applyconfigs.NetworkPolicyName(name), &networkingv1.NetworkPolicy{}),
		named(applyconfigs.PodDisruptionBudgetName(name), &policyv1.PodDisruptionBudget{}),
	} {
		object, err := find(ctx, c.WithWatch, server, child.GetName(), child)
		if apierrors.IsForbidden(err) {
			found.Unread = append(found.Unread, textOf(child))
			continue
		}
		if err != nil {
			return nil, err
		}
		if object == nil {
			continue
		}
		fields, err := ownersOf(object, "")
		if err != nil {
			return nil, err
		}
		kind, err := c.GroupVersionKindFor(object)
		if err != nil {
			return nil, fmt.Errorf("finding the kind of %s: %w", textOf(object), err)
		}
		found.Children = append(found.Children, childOfExplanation{
			Child: textOf(object), NotControlled: !metav1.IsControlledBy(object, server), Sources: sourcesOf(object, kind.GroupKind()), Fields: fields,
		})
	}
	if err := c.explainScale(ctx, server, found); err != nil {
		return nil, err
	}
	return found, nil
}

// explainScale adds why the scale is what it is, if there is a StatefulSet. It only reads. What the user may not read is left out, and listed.
func (c *connection) explainScale(ctx context.Context, server *v1beta1.MCPServer, found *explanation) error {
	reconciler := &reconcile.Reconciler{Client: c.WithWatch, APIReader: c.WithWatch, Now: time.Now}
	snapshot, verdict, err := reconciler.Decision(ctx, server)
	if apierrors.IsForbidden(err) {
		found.Unread = append(found.Unread, "all that decides about the scale")
		return nil
	}
	if err != nil {
		return err
	}
	scalers, err := c.scalers(ctx, server)
	if err == nil {
		snapshot.Autoscalers, err = c.autoscalers(ctx, server)
	}
	switch {
	case apierrors.IsForbidden(err): // an autoscaler is then shown by the name of its field manager
		found.Unread = append(found.Unread, "the autoscalers")
	case err != nil:
		return err
	}
	found.Scale = scaleExplanationOf(server, snapshot, verdict, scalers)
	return nil
}

// scaleExplanationOf returns why the scale is what it is; nil if there is no StatefulSet.
func scaleExplanationOf(server *v1beta1.MCPServer, snapshot *observe.Snapshot, verdict scale.Verdict, scalers []scaler) *scaleExplanation {
	if snapshot.Children.StatefulSet == nil {
		return nil
	}
	found := &scaleExplanation{
		Replicas: observe.ReplicasOf(snapshot.Children.StatefulSet), Owner: snapshot.ScaleOwnerName(),
		Declared: server.Spec.DeclaredReplicas(), Why: verdict.Reason,
	}
	if recorded := server.Status.Scale; recorded != nil {
		found.Transfers = recorded.Transfers
		if recorded.Owner == found.Owner {
			found.Since = &recorded.Since
		}
	}
	for _, one := range scalers {
		text := one.name + " of the " + one.target()
		switch {
		case one.isPaused:
			text += ", paused"
		case one.hpa == nil:
			text += ", without a HorizontalPodAutoscaler: KEDA creates it"
		}
		found.Autoscalers = append(found.Autoscalers, text)
	}
	return found
}

func explanationText(e *explanation) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s\n", e.Server)
	sourcesText(text, e.Sources)
	if len(e.Unread) > 0 {
		fmt.Fprintf(text, "  You may not read %s. The rest follows.\n", strings.Join(e.Unread, ", "))
	}
	switch {
	case e.Scale == nil && len(e.Unread) > 0: // there may be a StatefulSet
	case e.Scale == nil:
		text.WriteString("\nThere is no StatefulSet that the MCPServer controls, and so no scale.\n")
	default:
		fmt.Fprintf(text, "\nThe scale is %d and belongs to %s", e.Scale.Replicas, scale.Describe(e.Scale.Owner))
		if e.Scale.Since != nil {
			fmt.Fprintf(text, " since %s", timeText(e.Scale.Since))
		}
		text.WriteString(".\n")
		if e.Scale.Declared != nil {
			fmt.Fprintf(text, "  The MCPServer declares %d: %s.\n", *e.Scale.Declared, e.Scale.Why)
		} else {
			fmt.Fprintf(text, "  The MCPServer declares no number: %s.\n", e.Scale.Why)
		}
		for _, name := range e.Scale.Autoscalers {
			fmt.Fprintf(text, "  Autoscaler: %s\n", name)
		}
		for _, transfer := range e.Scale.Transfers {
			fmt.Fprintf(text, "  %s: %s\n", timeText(&transfer.Time), transferText(transfer))
		}
	}
	for _, child := range e.Children {
		fmt.Fprintf(text, "\n%s", child.Child)
		if child.NotControlled {
			text.WriteString(", which the MCPServer does not control")
		}
		text.WriteString("\n")
		sourcesText(text, child.Sources)
		rows := make([]string, len(child.Fields))
		for i, field := range child.Fields {
			owners := make([]string, len(field.Owners))
			for i, owner := range field.Owners {
				owners[i] = owner.String()
			}
			rows[i] = "  " + bounded(field.Field) + "\t" + strings.Join(owners, ", ")
		}
		text.WriteString(tableOf(rows))
	}
	return text.String()
}

func sourcesText(text *strings.Builder, sources []source) {
	for _, one := range sources {
		fmt.Fprintf(text, "  Ask: %s\n", one.Name)
	}
}

func transferText(t v1beta1.ScaleTransfer) string {
	return fmt.Sprintf("%d from %s → %d from %s", t.FromReplicas, scale.Describe(t.From), t.ToReplicas, scale.Describe(t.To))
}
