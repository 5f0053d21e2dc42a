package e2e

import (
	"fmt"
	"testing"

	"mcpserver-operator/crd/v1beta1"
)

// strategy returns an MCPServer with an image and an update strategy.
func strategy(image, update string) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: %q, updateStrategy: %s}
`, image, update)
}

// TestTheUpdateStrategyCanBeChangedWhileItRuns: Kubernetes sets defaults that nobody owns, and rejects some combinations of them.
func TestTheUpdateStrategyCanBeChangedWhileItRuns(t *testing.T) {
	const (
		first, second, third = "registry.example/server:1", "registry.example/server:2", "registry.example/server:3"
		image                = ".spec.template.spec.containers[0].image"
		kind                 = ".spec.updateStrategy.type"
		partition            = ".spec.updateStrategy.rollingUpdate.partition"
	)
	testEnv.Test(t, feature("updateStrategy").
		Setup(all(apply(strategy(first, "{}")), scaleIs(1), eventuallyPrints("RollingUpdate", "statefulset/web", kind))).
		Assess("to OnDelete, with another image", all(apply(strategy(second, "{type: OnDelete}")),
			eventuallyPrints("OnDelete", "statefulset/web", kind), eventuallyPrints(second, "statefulset/web", image), scaleIs(1),
			eventuallyPrints(first, "pod/web-0", ".spec.containers[0].image"), conditionIsGone(v1beta1.ConditionStalled))).
		Assess("back to RollingUpdate", all(apply(strategy(second, "{type: RollingUpdate}")),
			eventuallyPrints("RollingUpdate", "statefulset/web", kind), imageIs(second))).
		Assess("to a partition, with another image", all(apply(strategy(third, "{rollingUpdate: {partition: 1}}")),
			eventuallyPrints("1", "statefulset/web", partition), eventuallyPrints(third, "statefulset/web", image))).
		Assess("from a partition to OnDelete", all(apply(strategy(third, "{type: OnDelete}")), eventuallyPrints("OnDelete", "statefulset/web", kind))).
		Assess("from OnDelete to RollingUpdate", all(apply(strategy(third, "{type: RollingUpdate}")),
			eventuallyPrints("RollingUpdate", "statefulset/web", kind), imageIs(third))).
		Assess("forced passes write nothing", writesNothing(passesAreForced(3))).
		Feature())
}

// TestARecordOfADeclarationThatThereIsNotIsPutRight: another manager writes the annotation, so an apply does not remove it.
func TestARecordOfADeclarationThatThereIsNotIsPutRight(t *testing.T) {
	testEnv.Test(t, feature("a declared-replicas annotation of another manager").
		Setup(all(apply(undeclared), kubectl("scale", "statefulset", "web", "--replicas=3"), scaleIs(3))).
		Assess("is removed, and the scale stays", holds(3,
			kubectl("annotate", "statefulset", "web", v1beta1.DeclaredReplicasAnnotation+"=7"),
			eventuallyPrints("", "statefulset/web", `.metadata.annotations.toolhive\.stacklok\.dev/declared-replicas`),
			eventSays("FieldTakenBack", "kubectl-annotate", v1beta1.DeclaredReplicasAnnotation))).
		Assess("forced passes write nothing", writesNothing(passesAreForced(2))).
		Feature())
}

// TestAPredecessorThatStillRunsIsAFight verifies that updates of another operator cause a fight, even under this operator's manager
// name.
func TestAPredecessorThatStillRunsIsAFight(t *testing.T) {
	for _, manager := range []string{"toolhive-container-manager", "mcpserver-operator"} {
		meddle := kubectl("patch", "statefulset", "web", "--field-manager="+manager, "--type=strategic",
			"-p", `{"spec":{"template":{"spec":{"containers":[{"name":"mcp","image":"registry.example/old:1"}]}}}}`)
		putBack := eventuallyPrints("registry.example/server:1", "statefulset/web", ".spec.template.spec.containers[0].image")
		testEnv.Test(t, feature("an update by "+manager).
			Setup(all(apply(undeclared), scaleIs(1), passesAreForced(1))).
			Assess("the operator restores the field and emits an event", all(meddle, putBack, eventSays("FieldTakenBack", manager, "image"))).
			Assess("repeated updates are reported as a fight", all(meddle, putBack, meddle, putBack, meddle,
				conditionSays(v1beta1.ConditionFieldConflict, "FieldFight", manager, "image"))).
			Feature())
	}
}
