package clients

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	actionsapi "github.com/argoproj/argo-cd/v3/pkg/apiclient/application"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// argoActions runs actions as the API server of Argo CD does: the scripts run in its Lua VM, and the difference between the object that a script
// returns and the live object is sent as a merge patch.
type argoActions struct {
	t    *testing.T
	vm   lua.VM
	kube *kube.KubectlCmd
}

func newArgoActions(t *testing.T) *argoActions {
	t.Helper()
	return &argoActions{t: t, vm: lua.VM{ResourceOverrides: argoOverrides(t)}, kube: &kube.KubectlCmd{Tracer: tracing.NopTracer{}}}
}

func (a *argoActions) live(server client.ObjectKey) *unstructured.Unstructured {
	a.t.Helper()
	live, err := a.kube.GetResource(a.t.Context(), theCluster.Config, v1beta1.GroupVersion.WithKind("MCPServer"), server.Name, server.Namespace)
	must(a.t, err)
	return live
}

// enabled returns the actions that the user can choose, sorted.
func (a *argoActions) enabled(server client.ObjectKey) string {
	a.t.Helper()
	live := a.live(server)
	scripts, err := a.vm.GetResourceActionDiscovery(live)
	must(a.t, err)
	actions, err := a.vm.ExecuteResourceActionDiscovery(live, scripts)
	must(a.t, err)
	var names []string
	for _, action := range actions {
		if !action.Disabled {
			names = append(names, action.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// run runs an action. An empty value of replicas is what Argo CD sends if the user leaves the parameter empty.
func (a *argoActions) run(server client.ObjectKey, name, replicas string) error {
	a.t.Helper()
	live := a.live(server)
	action, err := a.vm.GetResourceAction(live, name)
	must(a.t, err)
	changed, err := a.vm.ExecuteResourceAction(live, action.ActionLua,
		[]*actionsapi.ResourceActionParameters{{Name: ptr.To("replicas"), Value: &replicas}})
	if err != nil {
		return err
	}
	for _, object := range changed {
		patch, err := client.MergeFrom(live).Data(object.UnstructuredObj)
		must(a.t, err)
		_, err = a.kube.PatchResource(a.t.Context(), theCluster.Config, live.GroupVersionKind(), server.Name, server.Namespace, types.MergePatchType, patch)
		must(a.t, err)
	}
	return nil
}

// declares waits until the operator has seen what the MCPServer declares.
func declares(t *testing.T, server client.ObjectKey, replicas *int32, policy v1beta1.ReplicasConflictPolicy) {
	t.Helper()
	eventually(t, "the declaration to be seen", func() (string, bool) {
		mcp := &v1beta1.MCPServer{}
		must(t, theCluster.Client.Get(t.Context(), server, mcp))
		spec := mcp.Spec
		return fmt.Sprintf("replicas %v, policy %q, annotations %v", ptr.Deref(spec.Replicas, -1), spec.ReplicasConflictPolicy, mcp.Annotations),
			ptr.Equal(spec.Replicas, replicas) && spec.ReplicasConflictPolicy == policy && mcp.Status.ObservedGeneration == mcp.Generation
	})
}

// TestArgoCDActions verifies the actions hold, resume and release for each way to set the scale. The API server sets an unset policy to Yield. The first
// scale is 3 and the action hold asks
// for 3 or, without a number, leaves it.
func TestArgoCDActions(t *testing.T) {
	for _, row := range []struct {
		name     string
		spec     []string
		before   int32 // the scale before kubectl scales to 3; 0 if it does not
		hold     string
		resumed  *int32
		recorded string
	}{
		{"delegated", nil, 1, "", nil, `{"replicasConflictPolicy":"Yield"}`},
		{"declared", []string{"replicas: 3"}, 0, "3", ptr.To[int32](3), `{"replicas":3,"replicasConflictPolicy":"Yield"}`},
		{"yielded", []string{"replicas: 2"}, 2, "3", nil, `{"replicas":2,"yielded":true,"replicasConflictPolicy":"Yield"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			actions, server := newArgoActions(t), named(newNamespace(t), "web")
			apply(t, server.Namespace, mcpServer("web", "registry.example/server:1", row.spec...))
			if row.before > 0 {
				scaleIs(t, server, row.before)
				kubectlScale(t, server, 3)
			}
			scaleIs(t, server, 3)
			holds(t, server, 3, func() {
				must(t, actions.run(server, "hold", row.hold))
				declares(t, server, ptr.To[int32](3), v1beta1.ReplicasConflictForce)
			})
			held := actions.live(server).GetAnnotations()["toolhive.stacklok.dev/held"]
			var got, want map[string]any
			must(t, json.Unmarshal([]byte(held), &got))
			must(t, json.Unmarshal([]byte(row.recorded), &want))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the annotation of kubectl mcpserver hold is %s, want %s", held, row.recorded)
			}
			if enabled := actions.enabled(server); enabled != "hold resume" {
				t.Errorf("while the scale is held, the actions are %q", enabled)
			}
			moves(t, server, []int32{3, 5, 3}, func() {
				kubectlScale(t, server, 5)
				scaleIs(t, server, 3)
			})
			holds(t, server, 3, func() {
				must(t, actions.run(server, "resume", ""))
				declares(t, server, row.resumed, v1beta1.ReplicasConflictYield)
				operatorPasses(t, server)
			})
			if left := actions.live(server).GetAnnotations(); left["toolhive.stacklok.dev/held"] != "" || left["toolhive.stacklok.dev/held-by-action"] != "" {
				t.Errorf("resume leaves %v", left)
			}
		})
	}
	t.Run("another number, and then a release", func(t *testing.T) {
		t.Parallel()
		actions, server := newArgoActions(t), named(newNamespace(t), "web")
		apply(t, server.Namespace, mcpServer("web", "registry.example/server:1", "replicas: 2"))
		scaleIs(t, server, 2)
		if enabled := actions.enabled(server); enabled != "hold release" {
			t.Errorf("the actions are %q", enabled)
		}
		must(t, actions.run(server, "hold", "4"))
		scaleIs(t, server, 4)
		if err := actions.run(server, "release", ""); err == nil || !strings.Contains(err.Error(), "the scale is held") {
			t.Errorf("a release of a held scale: %v", err)
		}
		holds(t, server, 4, func() {
			code, _, stderr, err := theCluster.Plugin(t.Context(), "development", "", "resume", "web", "-n", server.Namespace)
			if err != nil || code != 0 {
				t.Fatalf("kubectl mcpserver resume after the action hold: %d, %v, %s", code, err, stderr)
			}
			declares(t, server, ptr.To[int32](4), v1beta1.ReplicasConflictYield)
			must(t, actions.run(server, "release", ""))
			declares(t, server, nil, v1beta1.ReplicasConflictYield)
			neitherOwnsTheScale(t, server, "argocd")
		})
		if enabled := actions.enabled(server); enabled != "hold" {
			t.Errorf("after the release, the actions are %q", enabled)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		actions, server := newArgoActions(t), named(newNamespace(t), "web")
		apply(t, server.Namespace, together(mcpServer("web", "registry.example/server:1"), autoscaler(2)))
		eventually(t, "the autoscaler to scale", func() (string, bool) {
			mcp := &v1beta1.MCPServer{}
			must(t, theCluster.Client.Get(t.Context(), server, mcp))
			return fmt.Sprint(mcp.Status.Scale), mcp.Status.Scale != nil && mcp.Status.Scale.Owner == "HorizontalPodAutoscaler/web"
		})
		for _, row := range []struct{ action, replicas, message string }{
			{"hold", "", "HorizontalPodAutoscaler/web scales the StatefulSet"},
			{"resume", "", "kubectl mcpserver resume"},
		} {
			if err := actions.run(server, row.action, row.replicas); err == nil || !strings.Contains(err.Error(), row.message) {
				t.Errorf("%s: %v, want %q", row.action, err, row.message)
			}
		}
		kubectl(t, server.Namespace, "delete", "hpa", "web")
		kubectlScale(t, server, 3)
		for _, replicas := range []string{"many", "-1", "1.5"} {
			eventually(t, "a refusal of "+replicas, func() (string, bool) {
				err := actions.run(server, "hold", replicas)
				return fmt.Sprint(err), err != nil && strings.Contains(err.Error(), "whole number")
			})
		}
	})
}
