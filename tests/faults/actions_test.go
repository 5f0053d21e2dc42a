package faults

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/scale"
)

// actions are all actions that an actor can draw.
var actions = []struct {
	name string
	do   func(context.Context, *actor) error
}{
	{"kubectl scale (PATCH of /scale)", scales(scale.Requests.PatchScale)},
	{"autoscaler (GET and PUT of /scale)", scales(scale.Requests.PutScale)},
	{"kubectl patch", scales(scale.Requests.Patch)},
	{"kubectl apply --server-side", scales(func(r scale.Requests, ctx context.Context, replicas int32) error {
		return r.Apply(ctx, replicas, false)
	})},
	{"kubectl apply --server-side --force-conflicts", scales(func(r scale.Requests, ctx context.Context, replicas int32) error {
		return r.Apply(ctx, replicas, true)
	})},
	{"JSON patch that removes replicas", removeReplicas},
	{"kubectl rollout restart", adds("kubectl rollout restart", func(r scale.Requests, ctx context.Context) (scale.Kept, error) {
		return r.RolloutRestart(ctx, time.Now().Format(time.RFC3339Nano))
	})},
	{"labels and annotations of others", adds("a label and an annotation", scale.Requests.Label)},
	{"sidecar and env of an injector", adds("a sidecar and a variable", scale.Requests.Inject)},
	{"declare", declare},
	{"undeclare", undeclare},
	{"change the policy", changePolicy},
	{"change the image", changeImage},
	{"add or remove a variable", setVariable},
	{"edit or remove the record annotation", editRecord},
	{"scale under a hostile manager name", scaleAs},
	{"remove the record of ownership", loseOwnership},
	{"remove the status", removeStatus},
	{"change or delete another child", meddle},
	{"kubectl set image of the StatefulSet", setImage},
	{"delete the StatefulSet", deleteStatefulSet},
}

// scales returns an action that scales the StatefulSet.
func scales(by func(scale.Requests, context.Context, int32) error) func(context.Context, *actor) error {
	return func(ctx context.Context, a *actor) error {
		if may, err := a.mayProvoke(ctx, forced); !may || err != nil {
			return err
		}
		replicas := a.drawReplicas()
		return a.send(ctx, func(ctx context.Context) error { return by(a.requests, ctx, replicas) },
			func(m *scale.Model) { m.SomeoneScales(replicas) })
	}
}

func removeReplicas(ctx context.Context, a *actor) error {
	if may, err := a.mayProvoke(ctx, forced); !may || err != nil {
		return err
	}
	return a.send(ctx, a.requests.RemoveReplicas, func(m *scale.Model) { m.SomeoneScales(1) }) // the default of the StatefulSet API
}

// adds returns an action that adds something to the StatefulSet. The operator must keep the addition.
func adds(what string, by func(scale.Requests, context.Context) (scale.Kept, error)) func(context.Context, *actor) error {
	return func(ctx context.Context, a *actor) error {
		a.rollouts.Add(1)
		var kept scale.Kept
		delete(a.foreign, what) // the new addition can replace the old one before the answer arrives
		err := a.insist(ctx, func(ctx context.Context) (err error) {
			kept, err = by(a.requests, ctx)
			return err
		})
		a.foreign[what] = kept
		return err
	}
}

func declare(ctx context.Context, a *actor) error {
	replicas := a.drawReplicas()
	a.now.declared = append(a.now.declared, replicas)
	return a.send(ctx, func(ctx context.Context) error {
		return a.requests.EditServer(ctx, `{"spec":{"replicas":%d}}`, replicas)
	}, func(m *scale.Model) { m.Declared = &replicas })
}

func undeclare(ctx context.Context, a *actor) error {
	return a.send(ctx, func(ctx context.Context) error {
		return a.requests.EditServer(ctx, `{"spec":{"replicas":null}}`)
	}, func(m *scale.Model) { m.Declared = nil })
}

func changePolicy(ctx context.Context, a *actor) error {
	policy := v1beta1.ReplicasConflictYield
	if a.random.IntN(2) == 0 {
		policy = v1beta1.ReplicasConflictForce
		if may, err := a.mayProvoke(ctx, func(m scale.Model) bool { return m.Declared != nil }); !may || err != nil {
			return err
		}
	}
	return a.send(ctx, func(ctx context.Context) error {
		return a.requests.EditServer(ctx, `{"spec":{"replicasConflictPolicy":%q}}`, policy)
	}, func(m *scale.Model) { m.Policy = policy })
}

func changeImage(ctx context.Context, a *actor) error {
	a.rollouts.Add(1)
	a.image = fmt.Sprintf("registry.example/server:%d", 1+a.random.IntN(9))
	return a.insist(ctx, func(ctx context.Context) error {
		return a.requests.EditServer(ctx, `{"spec":{"image":%q}}`, a.image)
	})
}

func setVariable(ctx context.Context, a *actor) error {
	a.rollouts.Add(1)
	a.hasVariable = a.random.IntN(2) == 0
	return a.insist(ctx, func(ctx context.Context) error { return a.requests.SetVariable(ctx, a.hasVariable) })
}

func scaleAs(ctx context.Context, a *actor) error {
	manager := scale.HostileManagers[a.random.IntN(len(scale.HostileManagers))]
	return scales(func(r scale.Requests, ctx context.Context, replicas int32) error {
		return r.ScaleAs(ctx, manager, replicas)
	})(ctx, a)
}

// loseOwnership removes managedFields of a child. It waits for the operator before and afterwards, because Kubernetes records no writer of the
// scale while managedFields are lost.
func loseOwnership(ctx context.Context, a *actor) error {
	if err := a.settle(ctx); err != nil {
		return err
	}
	child := a.requests.RandomChild(a.random)
	err := a.insist(ctx, func(ctx context.Context) error { return a.requests.LoseOwnership(ctx, child, a.random) })
	if err != nil {
		return err
	}
	return a.settle(ctx)
}

// removeStatus removes the status of the MCPServer. It waits for the operator before and afterwards, because without a status, only the
// annotation of the StatefulSet records the last declaration.
func removeStatus(ctx context.Context, a *actor) error {
	if err := a.settle(ctx); err != nil {
		return err
	}
	if err := a.insist(ctx, a.requests.RemoveStatus); err != nil {
		return err
	}
	return a.settle(ctx)
}

// meddle changes or deletes a child that is not the StatefulSet.
func meddle(ctx context.Context, a *actor) error {
	if !a.mayMeddle() {
		return nil
	}
	return a.insist(ctx, func(ctx context.Context) error { return a.requests.Meddle(ctx, a.random) })
}

// setImage sets another image on the StatefulSet. The operator restores the image of the MCPServer.
func setImage(ctx context.Context, a *actor) error {
	if !a.mayMeddle() {
		return nil
	}
	a.rollouts.Add(2)
	return a.insist(ctx, func(ctx context.Context) error { return a.requests.SetImage(ctx, "registry.example/other:1") })
}

// mayMeddle reports whether the actor may change a field of the operator. If an actor changes fields more than once a minute, the changes can
// become a fight, in which the operator backs off for minutes: see mayProvoke.
func (a *actor) mayMeddle() bool {
	if time.Since(a.meddled) < time.Minute {
		return false
	}
	a.meddled = time.Now()
	return true
}

func editRecord(ctx context.Context, a *actor) error {
	values := []string{"null", `"0"`, `"1"`, `"2"`, `"3"`, `"many"`, `""`}
	value := values[a.random.IntN(len(values))]
	return a.insist(ctx, func(ctx context.Context) error { return a.requests.EditRecord(ctx, value) })
}

// deleteStatefulSet deletes the StatefulSet. The operator must recreate it with the same scale. The operator can only restore a scale that it
// has seen, so the action waits for this first.
func deleteStatefulSet(ctx context.Context, a *actor) error {
	if err := a.operatorSees(ctx); err != nil {
		return err
	}
	set := &appsv1.StatefulSet{}
	if err := a.insist(ctx, func(ctx context.Context) error { return a.requests.Client.Get(ctx, a.requests.Key, set) }); err != nil {
		return err
	}
	propagations := []metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
	}
	propagation := propagations[a.random.IntN(len(propagations))]
	clear(a.foreign) // the additions are deleted with the StatefulSet
	err := a.send(ctx, func(ctx context.Context) error {
		err := a.requests.Client.Delete(ctx, set, client.PropagationPolicy(propagation),
			client.Preconditions{UID: &set.UID})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // an earlier attempt has deleted it
		}
		return err
	}, (*scale.Model).SomeoneDeletes)
	if err != nil {
		return err
	}
	return a.settle(ctx) // the next actions need a StatefulSet
}

// operatorSees waits until the operator has seen the current version of the StatefulSet. The status does not show this: if the scale changes
// from 1 to 2 and back while the operator cannot watch, an old status has the same scale. Therefore the actor changes a label of the operator
// and waits until the operator restores the label. The operator writes only to the version that it has seen.
func (a *actor) operatorSees(ctx context.Context) error {
	if err := a.settle(ctx); err != nil {
		return err
	}
	meddler := fmt.Sprintf("meddler-%d", time.Now().UnixNano()) // repeated changes by one manager would be a fight
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: a.requests.Key.Namespace, Name: a.requests.Key.Name}}
	err := a.insist(ctx, func(ctx context.Context) error {
		return a.requests.Client.Patch(ctx, set, client.RawPatch(types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, applyconfigs.ManagedByLabel, meddler)), client.FieldOwner(meddler))
	})
	if err != nil {
		return err
	}
	return a.settleWhen(ctx, func(l *live) bool { return l.set.Labels[applyconfigs.ManagedByLabel] == applyconfigs.FieldManager })
}

// forced reports whether the operator takes back the scale after a write of another client.
func forced(m scale.Model) bool {
	return m.Policy == v1beta1.ReplicasConflictForce && m.Declared != nil
}

// mayProvoke reports whether an action is allowed. An action that can cause a take-back of the scale is allowed only if no fight can result. The
// third take-back within a minute is a fight, in which the operator backs off for minutes. This would stop the storm. tests/e2e/owners_test.go
// tests fights.
func (a *actor) mayProvoke(ctx context.Context, takesBack func(scale.Model) bool) (bool, error) {
	if !a.possible.or(a.possible.acted()).any(takesBack) {
		return true, nil
	}
	if err := a.settle(ctx); err != nil {
		return false, err
	}
	return a.takeBacks == nil || a.takeBacks.Count < 2 || time.Since(a.takeBacks.Since.Time) > 2*time.Minute, nil
}

func (a *actor) drawReplicas() int32 { return a.random.Int32N(mostReplicas + 1) }
