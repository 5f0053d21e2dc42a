package e2e

import (
	"fmt"
	"slices"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"

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
		Assess("another writer's RollingUpdate is reverted to OnDelete, with an event", all(
			apply(strategy(third, "{type: OnDelete}")), eventuallyPrints("OnDelete", "statefulset/web", kind),
			kubectl("patch", "statefulset", "web", "--type=merge", "-p", `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2}}}}`),
			eventSays("FieldTakenBack", `"kubectl-patch" had changed .spec.updateStrategy`), eventuallyPrints("OnDelete", "statefulset/web", kind))).
		Feature())
}

// TestARecordOfADeclarationThatThereIsNotIsPutRight: another manager writes the annotation, so an apply does not remove it.
func TestARecordOfADeclarationThatThereIsNotIsPutRight(t *testing.T) {
	testEnv.Test(t, feature("a declared-replicas annotation of another manager").
		Setup(all(apply(undeclared), childrenAreThere(), kubectl("scale", "statefulset", "web", "--replicas=3"), scaleIs(3))).
		Assess("is removed, and the scale stays", holds(3,
			kubectl("annotate", "statefulset", "web", v1beta1.DeclaredReplicasAnnotation+"=7"),
			eventuallyPrints("", "statefulset/web", `.metadata.annotations.toolhive\.stacklok\.dev/declared-replicas`),
			eventSays("FieldTakenBack", "kubectl-annotate", v1beta1.DeclaredReplicasAnnotation))).
		Assess("forced passes write nothing and read only the cache", all(writesNothing(passesAreForced(2)), readsOnlyTheCache(passesAreForced(2)))).
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

// TestAPredecessorThatStillScalesIsAFight: the operator of the bug report writes its own scale again and again. This operator does not declare a
// scale here, and leaves the value. It names the other operator, and does not follow each of its writes.
func TestAPredecessorThatStillScalesIsAFight(t *testing.T) {
	const manager = "toolhive-container-manager"
	scales := func(replicas int) features.Func {
		return all(kubectl("patch", "statefulset", "web", "--field-manager="+manager, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)),
			managersOf("statefulset/web", func(managers []string) bool { return !slices.Contains(managers, manager) }))
	}
	testEnv.Test(t, feature("a scale that "+manager+" writes").
		Setup(all(apply(undeclared), scaleIs(1), passesAreForced(1))).
		Assess("an event names the writer, and the scale stays", all(scales(2), eventSays("OtherOperatorWrites", manager, ".spec.replicas", "stop the other one"), scaleIs(2))).
		Assess("repeated writes are reported as a fight, and the writer is the owner of the scale", all(scales(3), scales(2),
			kubectl("patch", "statefulset", "web", "--field-manager="+manager, "--type=merge", "-p", `{"spec":{"replicas":3}}`),
			conditionSays(v1beta1.ConditionFieldConflict, "FieldFight", manager, ".spec.replicas", "Stop the other operator"), ownerIs(manager), scaleIs(3))).
		Feature())
}
