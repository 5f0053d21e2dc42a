package clients

import (
	"strings"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	ssautils "github.com/fluxcd/pkg/ssa/utils"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fluxManager is the field manager of Flux.
const fluxManager = "kustomize-controller"

// kustomization does what Flux's kustomize-controller does for a Kustomization with a target namespace. It uses Flux's own apply engine.
type kustomization struct {
	namespace string
	manager   *ssa.ResourceManager
}

func newKustomization(t *testing.T) (k *kustomization, web, api client.ObjectKey) {
	t.Helper()
	namespace := newNamespace(t)
	return &kustomization{
		namespace: namespace,
		manager:   ssa.NewResourceManager(theCluster.Client, nil, ssa.Owner{Field: fluxManager, Group: "kustomize.toolkit.fluxcd.io"}),
	}, named(namespace, "web"), named(namespace, "api")
}

// applyOptions are the options of kustomize-controller. They take over fields of kubectl apply, which reverts fields that are not in Git.
func applyOptions() ssa.ApplyOptions {
	options := ssa.DefaultApplyOptions()
	options.Cleanup = ssa.ApplyCleanupOptions{
		Annotations: []string{corev1.LastAppliedConfigAnnotation},
		FieldManagers: []ssa.FieldManager{
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: fluxManager, OperationType: metav1.ManagedFieldsOperationUpdate},
		},
	}
	return options
}

// reconcile applies the objects in Git as Flux does. It returns the action for each object, by KIND/NAMESPACE/NAME.
func (k *kustomization) reconcile(t *testing.T, git string) map[string]ssa.Action {
	t.Helper()
	objects, err := ssautils.ReadObjects(strings.NewReader(git))
	must(t, err)
	for _, object := range objects {
		object.SetNamespace(k.namespace)
	}
	must(t, normalize.UnstructuredList(objects))
	changes, err := k.manager.ApplyAllStaged(t.Context(), objects, applyOptions())
	must(t, err)
	actions := map[string]ssa.Action{}
	for _, entry := range changes.Entries {
		actions[entry.Subject] = entry.Action
	}
	if len(actions) != len(objects) {
		t.Fatalf("Flux reports for %d objects: %v", len(objects), actions)
	}
	return actions
}

// unchanged fails if Flux detects drift in any of several reconciliations. The operator runs a pass over web between them.
func (k *kustomization) unchanged(t *testing.T, git string, times int) {
	t.Helper()
	for range times {
		for subject, action := range k.reconcile(t, git) {
			if action != ssa.UnchangedAction {
				t.Fatalf("Flux detected drift of %s: %s", subject, action)
			}
		}
		operatorPasses(t, named(k.namespace, "web"))
	}
}

// corrects fails unless Flux detects and corrects drift of the MCPServer.
func (k *kustomization) corrects(t *testing.T, git string, server client.ObjectKey) {
	t.Helper()
	subject := "MCPServer/" + server.Namespace + "/" + server.Name
	if actions := k.reconcile(t, git); actions[subject] != ssa.ConfiguredAction {
		t.Fatalf("Flux did not correct the drift of %s: %v", subject, actions)
	}
}

// TestFlux verifies that Flux's apply engine, with drift correction, and the operator do not interfere, and that both keep the scale.
func TestFlux(t *testing.T) {
	flux, web, api := newKustomization(t)
	git := together(mcpServer("web", version1), mcpServer("api", version1))
	flux.reconcile(t, git)
	scaleIs(t, web, 1)
	scaleIs(t, api, 1)
	kubectlScale(t, web, 3)
	scaleIs(t, web, 3)
	leftToOthers(t, holds(t, api, 1, func() {
		leftToOthers(t, holds(t, web, 3, func() {
			flux.unchanged(t, git, 10)

			git = together(mcpServer("web", version2), mcpServer("api", version2), autoscaler(3))
			flux.reconcile(t, git)
			scaleIs(t, web, 3)
			flux.unchanged(t, git, 10)

			// Flux corrects drift of the MCPServer.
			kubectl(t, web.Namespace, "patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"image":"registry.example/other:1"}}`)
			flux.corrects(t, git, web)
			scaleIs(t, web, 3)
		}))
	}))
	if image := kubectl(t, web.Namespace, "get", "mcpserver", "web", "-o", "jsonpath={.spec.image}"); image != version2 {
		t.Errorf("the image is still %s", image)
	}
	neitherOwnsTheScale(t, web, fluxManager)
	isManagedBy(t, web, fluxManager, true)
}

// TestFluxWithReplicasInGit verifies that a declaration in Git is carried out once. A later scaling by others is not drift.
func TestFluxWithReplicasInGit(t *testing.T) {
	flux, web, api := newKustomization(t)
	git := together(mcpServer("web", version1, "replicas: 2"), mcpServer("api", version1, "replicas: 1"))
	flux.reconcile(t, git)
	scaleIs(t, web, 2)
	kubectlScale(t, web, 5)
	scaleIs(t, web, 5)
	leftToOthers(t, holds(t, web, 5, func() { flux.unchanged(t, git, 10) }))

	// A new number in Git counts.
	git = together(mcpServer("web", version1, "replicas: 3"), mcpServer("api", version1, "replicas: 1"))
	moves(t, web, []int32{5, 3}, func() {
		flux.corrects(t, git, web)
		operatorPasses(t, web)
		scaleIs(t, web, 3)
		flux.unchanged(t, git, 4)
	})
	// After the number is removed from Git, the pods stay.
	git = together(mcpServer("web", version1), mcpServer("api", version1, "replicas: 1"))
	holds(t, web, 3, func() {
		flux.corrects(t, git, web)
		flux.unchanged(t, git, 4)
	})
	neitherOwnsTheScale(t, web, fluxManager)
	scaleIs(t, api, 1)
}

// TestFluxUndoesKubectlApply: kustomize-controller takes over the fields of kubectl and removes those that are not in Git. This releases
// a number of replicas that kubectl apply has declared, and no pod changes.
func TestFluxUndoesKubectlApply(t *testing.T) {
	for _, row := range []struct {
		name string
		by   []string
	}{
		{"server-side", []string{"apply", "--server-side", "--force-conflicts"}},
		{"client-side", []string{"apply"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			flux, web, _ := newKustomization(t)
			git := together(mcpServer("web", version1), mcpServer("api", version1))
			flux.reconcile(t, git)
			scaleIs(t, web, 1)
			_, err := theCluster.KubectlWithInput(t.Context(), mcpServer("web", version1, "replicas: 4"),
				append(row.by, "-n", web.Namespace, "-f", "-")...)
			must(t, err)
			scaleIs(t, web, 4)
			holds(t, web, 4, func() {
				flux.corrects(t, git, web)
				flux.unchanged(t, git, 4)
			})
			if replicas := kubectl(t, web.Namespace, "get", "mcpserver", "web", "-o", "jsonpath={.spec.replicas}"); replicas != "" {
				t.Errorf("%s replicas are declared, but Git declares none", replicas)
			}
			neitherOwnsTheScale(t, web, fluxManager)
		})
	}
}
