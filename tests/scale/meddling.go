package scale

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// HostileManagers are names of field managers that could be mistaken for an object, a keyword of the status, or several writers.
var HostileManagers = []string{
	"Namespace/production", "HorizontalPodAutoscaler/web", v1beta1.ScaleOwnerMCPServer, v1beta1.ScaleOwnerUnclaimed, `a, "b"`,
	applyconfigs.FieldManager, strings.Repeat("m", 128),
}

// ScaleAs scales under any name of a field manager, with a patch of the StatefulSet.
func (r Requests) ScaleAs(ctx context.Context, manager string, replicas int32) error {
	return r.patchSet(ctx, manager, mergePatch(`{"spec":{"replicas":%d}}`, replicas))
}

// SetImage changes the image of the StatefulSet as kubectl set image does.
func (r Requests) SetImage(ctx context.Context, image string) error {
	return r.Client.Patch(ctx, r.statefulSet(), client.RawPatch(types.StrategicMergePatchType, fmt.Appendf(nil,
		`{"spec":{"template":{"spec":{"containers":[{"name":%q,"image":%q}]}}}}`, applyconfigs.ContainerName, image)),
		client.FieldOwner("kubectl-set"))
}

// SetVariable adds an environment variable to the MCPServer, or removes it.
func (r Requests) SetVariable(ctx context.Context, present bool) error {
	if !present {
		return r.EditServer(ctx, `{"spec":{"env":null}}`)
	}
	return r.EditServer(ctx, `{"spec":{"env":[{"name":%q,"value":"secret"}]}}`, variable)
}

// LoseOwnership removes managedFields of a child, as some backup tools do.
func (r Requests) LoseOwnership(ctx context.Context, child client.Object, random *rand.Rand) error {
	emptied := []string{`[]`, `[{}]`}[random.IntN(2)]
	return r.Client.Patch(ctx, child, mergePatch(`{"metadata":{"managedFields":%s}}`, emptied), client.FieldOwner("restore"))
}

// RandomChild returns the StatefulSet or another child of the MCPServer.
func (r Requests) RandomChild(random *rand.Rand) client.Object {
	all := append(r.Children(), r.statefulSet())
	return all[random.IntN(len(all))]
}

// RemoveStatus removes the whole status of the MCPServer.
func (r Requests) RemoveStatus(ctx context.Context) error {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: r.Key.Namespace, Name: r.Key.Name}}
	return r.Client.Status().Patch(ctx, server, mergePatch(`{"status":null}`), client.FieldOwner("restore"))
}

// Meddle changes a field of the operator in a child that is not the StatefulSet, or deletes the child.
func (r Requests) Meddle(ctx context.Context, random *rand.Rand) error {
	children := r.Children()
	child := children[random.IntN(len(children))]
	patch := mergePatch(`{"metadata":{"labels":{%q:"meddler"}}}`, applyconfigs.ManagedByLabel)
	switch child := child.(type) {
	case *corev1.Service:
		if child.Name == "mcp-"+r.Key.Name+"-proxy" {
			patch = mergePatch(`{"spec":{"sessionAffinity":"None"}}`)
		}
	case *policyv1.PodDisruptionBudget:
		patch = mergePatch(`{"spec":{"maxUnavailable":0}}`)
	}
	if random.IntN(3) == 0 {
		return client.IgnoreNotFound(r.Client.Delete(ctx, child))
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, child, patch, client.FieldOwner(fmt.Sprint("meddler-", random.Uint32()))))
}
