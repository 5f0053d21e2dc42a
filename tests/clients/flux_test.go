package clients

import (
	"strings"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	ssautils "github.com/fluxcd/pkg/ssa/utils"
)

// fluxManager is the field manager of Flux.
const fluxManager = "kustomize-controller"

// TestFlux: Flux's apply engine, with its correction of drift, and the operator leave each other alone.
func TestFlux(t *testing.T) {
	namespace := newNamespace(t)
	manager := ssa.NewResourceManager(theCluster.Client, nil, ssa.Owner{Field: fluxManager, Group: "kustomize.toolkit.fluxcd.io"})
	// reconcile applies what is in Git as Flux does, and returns what it did with each object.
	reconcile := func(git string) []ssa.Action {
		t.Helper()
		objects, err := ssautils.ReadObjects(strings.NewReader(git))
		must(t, err)
		for _, object := range objects {
			object.SetNamespace(namespace)
		}
		must(t, normalize.UnstructuredList(objects))
		changes, err := manager.ApplyAll(t.Context(), objects, ssa.DefaultApplyOptions())
		must(t, err)
		var actions []ssa.Action
		for _, entry := range changes.Entries {
			actions = append(actions, entry.Action)
		}
		return actions
	}
	unchanged := func(git string, times int) {
		t.Helper()
		for range times {
			for _, action := range reconcile(git) {
				if action != ssa.UnchangedAction {
					t.Fatalf("Flux saw drift: %s", action)
				}
			}
			operatorPasses(t, namespace)
		}
	}

	git := mcpServer("registry.example/server:1")
	reconcile(git)
	scaleIs(t, namespace, 1)
	kubectl(t, namespace, "scale", "statefulset", "web", "--replicas=3")
	scaleIs(t, namespace, 3)
	holds(t, namespace, 3, func() { unchanged(git, 10) })

	git = mcpServer("registry.example/server:2") + "---\n" + autoscaler(3)
	holds(t, namespace, 3, func() {
		reconcile(git)
		scaleIs(t, namespace, 3)
		unchanged(git, 10)
	})
	neitherOwnsTheScale(t, namespace, fluxManager)

	// Drift of the MCPServer is corrected, and the scale moves only where the declaration does.
	kubectl(t, namespace, "patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"image":"registry.example/other:1"}}`)
	holds(t, namespace, 3, func() {
		if actions := reconcile(git); actions[0] != ssa.ConfiguredAction && actions[len(actions)-1] != ssa.ConfiguredAction {
			t.Fatalf("Flux did not correct the drift: %v", actions)
		}
		scaleIs(t, namespace, 3)
	})
	if server := kubectl(t, namespace, "get", "mcpserver", "web", "-o", "jsonpath={.spec.image}"); server != "registry.example/server:2" {
		t.Errorf("the image is still %s", server)
	}
	isManagedBy(t, namespace, fluxManager, true)
}
