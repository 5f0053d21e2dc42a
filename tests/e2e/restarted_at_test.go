package e2e

import (
	"testing"
)

// TestTheAnnotationRestartedAtRestartsThePods verifies the annotation by which users of ToolHive restart a server. Its removal restarts nothing.
func TestTheAnnotationRestartedAtRestartsThePods(t *testing.T) {
	const annotation = "mcpserver.toolhive.stacklok.dev/restarted-at"
	const inTemplate = `.spec.template.metadata.annotations.mcpserver\.toolhive\.stacklok\.dev/restarted-at`
	testEnv.Test(t, feature("restarted-at").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))).
		Assess("a new value replaces the pods, and the scale stays", holds(2, podsAreReplaced(
			kubectl("annotate", "mcpserver", server, annotation+"=2026-11-27T10:00:00Z"),
			eventuallyPrints("2026-11-27T10:00:00Z", "statefulset/web", inTemplate), kubectl("rollout", "status", "statefulset/web", "--timeout=90s")))).
		Assess("its removal changes nothing", all(writesNoChild(all(
			kubectl("annotate", "mcpserver", server, annotation+"-"), passesAreForced(2))),
			eventuallyPrints("2026-11-27T10:00:00Z", "statefulset/web", inTemplate))).
		Feature())
}
