package scale

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
)

// Requests sends writes of other clients to an MCPServer and its StatefulSet. Each method sends a single request like one kind of client,
// and returns its error unchanged.
type Requests struct {
	Client client.Client
	Key    client.ObjectKey
}

// Kept reports whether a change of another client is still present on a StatefulSet.
type Kept func(*appsv1.StatefulSet) bool

// PatchScale scales as kubectl scale does.
func (r Requests) PatchScale(ctx context.Context, replicas int32) error {
	return r.Client.SubResource("scale").Patch(ctx, r.statefulSet(), mergePatch(`{"spec":{"replicas":%d}}`, replicas),
		client.FieldOwner("kubectl"))
}

// PutScale scales as a HorizontalPodAutoscaler does. A conflict means that the StatefulSet controller wrote first.
func (r Requests) PutScale(ctx context.Context, replicas int32) error {
	set, scale := r.statefulSet(), &autoscalingv1.Scale{}
	if err := r.Client.SubResource("scale").Get(ctx, set, scale); err != nil {
		return err
	}
	scale.Spec.Replicas = replicas
	return r.Client.SubResource("scale").Update(ctx, set, client.WithSubResourceBody(scale),
		client.FieldOwner("kube-controller-manager"))
}

// Patch scales as kubectl patch does.
func (r Requests) Patch(ctx context.Context, replicas int32) error {
	return r.patchSet(ctx, "kubectl-patch", mergePatch(`{"spec":{"replicas":%d}}`, replicas))
}

// Apply scales as kubectl apply --server-side does. Without force, a conflict means that another manager owns the scale.
func (r Requests) Apply(ctx context.Context, replicas int32, force bool) error {
	options := []client.ApplyOption{client.FieldOwner("argocd-controller")}
	if force {
		options = append(options, client.ForceOwnership)
	}
	return r.Client.Apply(ctx, appsv1ac.StatefulSet(r.Key.Name, r.Key.Namespace).
		WithSpec(appsv1ac.StatefulSetSpec().WithReplicas(replicas)), options...)
}

// RemoveReplicas removes spec.replicas. The API server then sets it to its default of 1.
func (r Requests) RemoveReplicas(ctx context.Context) error {
	return r.patchSet(ctx, "someone", client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/replicas"}]`)))
}

// RolloutRestart restarts the pods as kubectl rollout restart does.
func (r Requests) RolloutRestart(ctx context.Context, at string) (Kept, error) {
	err := r.patchSet(ctx, "kubectl-rollout", mergePatch(
		`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, at))
	return func(set *appsv1.StatefulSet) bool {
		return set.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] == at
	}, err
}

// Label adds a label and an annotation.
func (r Requests) Label(ctx context.Context) (Kept, error) {
	err := r.patchSet(ctx, "kubectl-label", mergePatch(
		`{"metadata":{"labels":{"team":"platform"},"annotations":{"note":"kept"}}}`))
	return func(set *appsv1.StatefulSet) bool {
		return set.Labels["team"] == "platform" && set.Annotations["note"] == "kept"
	}, err
}

// Inject adds a sidecar, and an environment variable to the server's container.
func (r Requests) Inject(ctx context.Context) (Kept, error) {
	err := r.Client.Apply(ctx, appsv1ac.StatefulSet(r.Key.Name, r.Key.Namespace).WithSpec(
		appsv1ac.StatefulSetSpec().WithTemplate(corev1ac.PodTemplateSpec().WithSpec(corev1ac.PodSpec().WithContainers(
			corev1ac.Container().WithName("sidecar").WithImage("registry.example/sidecar:1"),
			corev1ac.Container().WithName("mcp").WithEnv(corev1ac.EnvVar().WithName("INJECTED").WithValue("yes")),
		)))), client.FieldOwner("injector"))
	return func(set *appsv1.StatefulSet) bool {
		var sidecar, variable bool
		for _, container := range set.Spec.Template.Spec.Containers {
			sidecar = sidecar || container.Name == "sidecar"
			for _, env := range container.Env {
				variable = variable || env.Name == "INJECTED"
			}
		}
		return sidecar && variable
	}, err
}

// EditRecord sets the annotation that records the declaration to a JSON string, or removes it if the value is null. Neither declares a
// scale or makes a declaration count again.
func (r Requests) EditRecord(ctx context.Context, value string) error {
	return r.patchSet(ctx, "meddler", mergePatch(`{"metadata":{"annotations":{%q:%s}}}`,
		v1beta1.DeclaredReplicasAnnotation, value))
}

// EditServer edits the MCPServer with a merge patch.
func (r Requests) EditServer(ctx context.Context, format string, args ...any) error {
	server := &v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: r.Key.Namespace, Name: r.Key.Name}}
	return r.Client.Patch(ctx, server, mergePatch(format, args...), client.FieldOwner("user"))
}

func (r Requests) patchSet(ctx context.Context, manager string, patch client.Patch) error {
	return r.Client.Patch(ctx, r.statefulSet(), patch, client.FieldOwner(manager))
}

func (r Requests) statefulSet() *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: r.Key.Namespace, Name: r.Key.Name}}
}

func mergePatch(format string, args ...any) client.Patch {
	return client.RawPatch(types.MergePatchType, fmt.Appendf(nil, format, args...))
}
