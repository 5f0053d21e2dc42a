package main

import (
	"fmt"
	"slices"
	"strings"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/scale"
)

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
			fmt.Fprintf(text, "    %s\n", strings.ReplaceAll(printable(child.Error, mostError, "\n\t"), "\n", "\n    "))
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
