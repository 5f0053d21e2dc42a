package scale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// variable is the environment variable that Requests.SetVariable adds to the MCPServer.
const variable = "TOKEN"

// JudgeTemplate fails unless the pod template of a StatefulSet has the image of the MCPServer, and the environment variable of
// Requests.SetVariable if and only if the MCPServer has it.
func JudgeTemplate(set *appsv1.StatefulSet, image string, hasVariable bool) error {
	for _, container := range set.Spec.Template.Spec.Containers {
		if container.Name != applyconfigs.ContainerName {
			continue
		}
		has := slices.ContainsFunc(container.Env, func(env corev1.EnvVar) bool { return env.Name == variable })
		if container.Image != image || has != hasVariable {
			return fmt.Errorf("the pods run %s (variable %s: %t), wanted %s (%t)", container.Image, variable, has, image, hasVariable)
		}
		return nil
	}
	return errors.New("the container of the server is missing")
}

// Rollouts returns how often the pod template of a StatefulSet has changed from one version to the next. A nil version means that the
// StatefulSet did not exist.
func Rollouts(versions []*appsv1.StatefulSet) int {
	rollouts := 0
	for i := 1; i < len(versions); i++ {
		before, after := versions[i-1], versions[i]
		if before != nil && after != nil && before.UID == after.UID && !equality.Semantic.DeepEqual(before.Spec.Template, after.Spec.Template) {
			rollouts++
		}
	}
	return rollouts
}

// JudgeStatus fails unless status.scale matches the model and its transfers are consistent. It requires that no autoscaler targets the
// StatefulSet.
func JudgeStatus(seen *v1beta1.ScaleStatus, m Model) error {
	if seen == nil {
		return errors.New("status.scale is absent")
	}
	if seen.Replicas != m.Replicas || !ptr.Equal(seen.DeclaredReplicas, m.CarriedOut) {
		return fmt.Errorf("status.scale has %d replicas, declared %d; wanted %s", seen.Replicas, ptr.Deref(seen.DeclaredReplicas, -1), &m)
	}
	if ours := seen.Owner == v1beta1.ScaleOwnerMCPServer; ours != m.Ours {
		return fmt.Errorf("the owner of the scale is %q; the model says that the MCPServer owns it: %t", seen.Owner, m.Ours)
	}
	return errors.Join(judgeOwner(seen.Owner), judgeTransfers(seen))
}

// judgeOwner fails if the name of an unknown field manager could be mistaken for the name of an object.
func judgeOwner(owner string) error {
	if owner == "" || (!strings.HasPrefix(owner, `"`) && strings.ContainsAny(owner, `/,`)) {
		return fmt.Errorf("the owner of the scale is %q", owner)
	}
	return nil
}

// judgeTransfers fails unless the newest transfer is to the current owner, and each transfer is from the owner to whom the preceding transfer
// was.
func judgeTransfers(seen *v1beta1.ScaleStatus) error {
	next := seen.Owner
	for _, transfer := range seen.Transfers {
		if transfer.To != next || transfer.From == transfer.To || transfer.Time.After(seen.Since.Time) {
			return fmt.Errorf("the transfers of the scale of %q since %s are %v", seen.Owner, seen.Since, seen.Transfers)
		}
		if err := judgeOwner(transfer.From); err != nil {
			return err
		}
		next = transfer.From
	}
	return nil
}

// Children returns the children of an MCPServer except its StatefulSet. Only their names are set.
func (r Requests) Children() []client.Object {
	at := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: r.Key.Namespace, Name: name} }
	return []client.Object{
		&corev1.Service{ObjectMeta: at("mcp-" + r.Key.Name + "-proxy")},
		&corev1.Service{ObjectMeta: at("mcp-" + r.Key.Name + "-headless")},
		&corev1.ServiceAccount{ObjectMeta: at("mcp-" + r.Key.Name)},
		&policyv1.PodDisruptionBudget{ObjectMeta: at("mcp-" + r.Key.Name)},
	}
}

// JudgeChildren fails unless each child exists, belongs to the MCPServer, and has the operator's values in the fields that Requests.Meddle
// changes. The managedFields of each child must have exactly one Apply entry of the operator, and no entry of before-first-apply.
func (r Requests) JudgeChildren(ctx context.Context, server *v1beta1.MCPServer) error {
	var errs []error
	for _, child := range append(r.Children(), r.statefulSet()) {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(child), child); err != nil {
			errs = append(errs, err)
			continue
		}
		if !metav1.IsControlledBy(child, server) || child.GetLabels()[applyconfigs.ManagedByLabel] != applyconfigs.FieldManager {
			errs = append(errs, fmt.Errorf("%T %s does not belong to the MCPServer", child, child.GetName()))
		}
		var applied int
		for _, entry := range child.GetManagedFields() {
			if entry.Manager == applyconfigs.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
				applied++
			}
			if entry.Manager == "before-first-apply" {
				errs = append(errs, fmt.Errorf("%T %s has fields of before-first-apply", child, child.GetName()))
			}
		}
		if applied != 1 {
			errs = append(errs, fmt.Errorf("%T %s has %d entries of the operator", child, child.GetName(), applied))
		}
		switch child := child.(type) {
		case *corev1.Service:
			if child.Name == "mcp-"+r.Key.Name+"-proxy" && child.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
				errs = append(errs, fmt.Errorf("the session affinity is %s", child.Spec.SessionAffinity))
			}
		case *policyv1.PodDisruptionBudget:
			if child.Spec.MaxUnavailable == nil || child.Spec.MaxUnavailable.IntValue() != 1 {
				errs = append(errs, fmt.Errorf("maxUnavailable is %s", child.Spec.MaxUnavailable))
			}
		}
	}
	return errors.Join(errs...)
}
