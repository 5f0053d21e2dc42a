package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
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
			"and why the scale is what it is.",
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
	found := &explanation{Server: client.ObjectKeyFromObject(server).String(), Sources: sourcesOf(server), Children: []childOfExplanation{}}
	name := server.Name
	for _, child := range []struct {
		kind   string
		object client.Object
	}{
		{observe.KindStatefulSet, named(applyconfigs.StatefulSetName(name), &appsv1.StatefulSet{})},
		{observe.KindService, named(applyconfigs.ClientServiceName(name), &corev1.Service{})},
		{observe.KindService, named(applyconfigs.HeadlessServiceName(name), &corev1.Service{})},
		{observe.KindServiceAccount, named(applyconfigs.ServiceAccountName(name), &corev1.ServiceAccount{})},
		{observe.KindNetworkPolicy, named(applyconfigs.NetworkPolicyName(name), &networkingv1.NetworkPolicy{})},
		{observe.KindPodDisruptionBudget, named(applyconfigs.PodDisruptionBudgetName(name), &policyv1.PodDisruptionBudget{})},
	} {
		object, err := find(ctx, c.WithWatch, server, child.object.GetName(), child.object)
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
		found.Children = append(found.Children, childOfExplanation{
			Child:         observe.Child{Kind: child.kind, Name: object.GetName()}.String(),
			NotControlled: !metav1.IsControlledBy(object, server), Sources: sourcesOf(object), Fields: fields,
		})
	}
	preview, err := c.preview(ctx, c.WithWatch, server)
	if err != nil {
		return nil, err
	}
	found.Scale = scaleExplanationOf(server, preview)
	return found, nil
}

// scaleExplanationOf returns why the scale is what it is; nil if there is no StatefulSet.
func scaleExplanationOf(server *v1beta1.MCPServer, preview *reconcile.Preview) *scaleExplanation {
	snapshot := preview.Snapshot
	if snapshot.Children.StatefulSet == nil {
		return nil
	}
	found := &scaleExplanation{
		Replicas: observe.ReplicasOf(snapshot.Children.StatefulSet), Owner: snapshot.ScaleOwnerName(),
		Declared: server.Spec.DeclaredReplicas(), Why: preview.Scale.Reason,
	}
	if recorded := server.Status.Scale; recorded != nil {
		found.Transfers = recorded.Transfers
		if recorded.Owner == found.Owner {
			found.Since = &recorded.Since
		}
	}
	for i := range snapshot.Autoscalers.OfStatefulSet {
		found.Autoscalers = append(found.Autoscalers, scale.AutoscalerName(&snapshot.Autoscalers.OfStatefulSet[i])+" of the StatefulSet")
	}
	for i := range snapshot.Autoscalers.OfMCPServer {
		found.Autoscalers = append(found.Autoscalers, scale.AutoscalerName(&snapshot.Autoscalers.OfMCPServer[i])+" of the MCPServer")
	}
	return found
}

func explanationText(e *explanation) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "MCPServer %s\n", e.Server)
	sourcesText(text, e.Sources)
	if e.Scale == nil {
		text.WriteString("\nThere is no StatefulSet that the MCPServer controls, and so no scale.\n")
	} else {
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
