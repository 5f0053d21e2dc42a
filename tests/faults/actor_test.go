package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
	"mcpserver-operator/tests/scale"
)

const (
	// mostActions is the maximum number of actions before an actor waits for the operator.
	mostActions = 3
	// mostReplicas is how far the storm scales. With many more, the simulated node (kwok 0.8) deletes new pods in place of old ones of the same
	// name, and the pods never become Ready. tests/storm, which has no node, scales to 50.
	mostReplicas = 4
	// pause is the maximum time between two steps of an actor.
	pause = 500 * time.Millisecond
	// lookInterval is the time between two checks of a condition that a test waits for.
	lookInterval = 250 * time.Millisecond
	// requestTimeout is how long an actor waits for an answer.
	requestTimeout = 15 * time.Second
	// settleTimeout is the maximum time that the operator may need while there is no fault. After failures, the operator backs off for at most
	// a minute. The rest allows for a busy machine.
	settleTimeout = 4 * time.Minute
)

// actor acts as all users and controllers of one MCPServer except the operator. In each step, the actor takes some actions and waits until the
// operator has reacted. No other client changes the MCPServer or its StatefulSet, so the expected result is known.
type actor struct {
	storm    *storm
	requests scale.Requests
	random   *rand.Rand

	possible  possible
	image     string
	foreign   map[string]scale.Kept // the additions of the actor to the StatefulSet
	takeBacks *v1beta1.ScaleTakeBacks
	// hasVariable is true if the MCPServer has the environment variable of scale.Requests.SetVariable.
	hasVariable bool
	// meddled is when the actor last changed a field of the operator.
	meddled time.Time
	// rollouts is how often the pod template may have changed. versions are the observed versions of the StatefulSet.
	rollouts atomic.Int32
	versions []*appsv1.StatefulSet

	now     step
	steps   []step       // the finished steps
	settled atomic.Int32 // the number of finished steps
	actions atomic.Int32
}

// run takes steps until the storm ends.
func (a *actor) run(ctx context.Context) error {
	for {
		if err := a.step(ctx); err != nil {
			return fmt.Errorf("%s: after %q: %w", a.requests.Key.Name, a.now.done, err)
		}
		if err := hold(ctx, rand.N(pause)); err != nil {
			return err
		}
	}
}

// step takes some actions, waits until the operator has reacted, and compares the result with the model.
func (a *actor) step(ctx context.Context) error {
	a.storm.calmly.RLock()
	defer a.storm.calmly.RUnlock()
	a.now.done = nil
	if a.possible.any(func(m scale.Model) bool { return m.Fresh }) {
		if err := a.settle(ctx); err != nil {
			return err
		}
	}
	for range 1 + a.random.IntN(mostActions) {
		next := actions[a.random.IntN(len(actions))]
		a.now.done = append(a.now.done, next.name)
		if err := next.do(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", next.name, err)
		}
		a.actions.Add(1)
	}
	if err := a.settle(ctx); err != nil {
		return err
	}
	a.settled.Add(1)
	return nil
}

// send repeats a request until it is answered, and updates the possible models. A conflict is an answer: the request changed nothing.
func (a *actor) send(ctx context.Context, request func(context.Context) error, happens func(*scale.Model)) error {
	for {
		a.think(a.possible.or(a.possible.acted()))
		after := a.possible.after(happens)
		err := a.try(ctx, request)
		switch {
		case err == nil:
			a.think(after)
			return nil
		case apierrors.IsConflict(err):
			return nil
		case !isUnanswered(err):
			return err
		}
		a.think(a.possible.or(after))
		if err := hold(ctx, lookInterval); err != nil {
			return err
		}
	}
}

// insist is like send, for a request that does not change the model.
func (a *actor) insist(ctx context.Context, request func(context.Context) error) error {
	return a.send(ctx, request, func(*scale.Model) {})
}

// try sends a request once.
func (a *actor) try(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return request(ctx)
}

// isUnanswered reports whether the request must be repeated: the API server may have carried it out, or refused it for a reason that is
// unrelated to the request.
func isUnanswered(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || status.Status().Code >= 500 || apierrors.IsTooManyRequests(err)
}

// think sets the models that are possible from now on. Their scales are allowed. Under Force, the operator may also set the declared scale.
func (a *actor) think(p possible) {
	a.possible = p
	for _, m := range p {
		a.now.allow(m.Replicas)
		if forced(m) {
			a.now.forced = append(a.now.forced, *m.Declared)
		}
	}
}

// settle waits until the operator has reacted, and begins a new step. The time of a fault does not count.
func (a *actor) settle(ctx context.Context) error {
	return a.settleWhen(ctx, func(*live) bool { return true })
}

// settleWhen is like settle, but also waits for the given condition.
func (a *actor) settleWhen(ctx context.Context, is func(*live) bool) error {
	a.think(a.possible.or(a.possible.acted()))
	begun := time.Now()
	for {
		live, err := a.look(ctx)
		if err == nil {
			if err := errors.Join(a.lost(live.set), a.judge(versionOf(live.set, "actor"))); err != nil {
				return err // waiting cannot correct this
			}
			if live.is(a.possible.acted()) != nil && is(live) {
				a.begin(live)
				return nil
			}
		}
		if since, calm := a.storm.calmSince(); calm && time.Since(since) > settleTimeout && time.Since(begun) > settleTimeout {
			state := live.String()
			if err != nil {
				state = err.Error()
			}
			return fmt.Errorf("the operator has not reached an expected state: %s; wanted one of %s", state, a.possible.acted())
		}
		if err := hold(ctx, lookInterval); err != nil {
			return err
		}
	}
}

// begin begins a new step with the current state.
func (a *actor) begin(live *live) {
	a.endStep(version(live.set))
	a.takeBacks = live.server.Status.Scale.TakeBacks
	a.think(live.is(a.possible.acted()))
}

// endStep ends the current step with the given resourceVersion.
func (a *actor) endStep(until int64) {
	ended := a.now
	ended.until = until
	a.steps, a.now = append(a.steps, ended), step{done: slices.Clone(a.now.done)}
}

// live is the current state of an MCPServer and its StatefulSet.
type live struct {
	set    *appsv1.StatefulSet
	server *v1beta1.MCPServer
	ours   bool  // the operator owns the scale
	asked  bool  // everything except the scale is as desired
	lacks  error // the first difference in the pod template or the other children
}

var replicasPath = fieldpath.MakePathOrDie("spec", "replicas")

// look reads the current state.
func (a *actor) look(ctx context.Context) (*live, error) {
	l := &live{set: &appsv1.StatefulSet{}, server: &v1beta1.MCPServer{}}
	err := a.try(ctx, func(ctx context.Context) error {
		return errors.Join(theCluster.Client.Get(ctx, a.requests.Key, l.server), theCluster.Client.Get(ctx, a.requests.Key, l.set))
	})
	if err != nil {
		return l, err
	}
	owners, err := ownership.OwnersOf(l.set, replicasPath)
	if err != nil {
		return l, err
	}
	l.ours = ownership.Owns(owners, ownership.Applier(applyconfigs.FieldManager))
	l.lacks = scale.JudgeTemplate(l.set, a.image, a.hasVariable)
	if l.lacks == nil {
		l.lacks = a.try(ctx, func(ctx context.Context) error { return a.requests.JudgeChildren(ctx, l.server) })
	}
	l.asked = l.set.DeletionTimestamp == nil && l.server.Status.ObservedGeneration == l.server.Generation && l.lacks == nil
	return l, nil
}

// lost returns an error if an addition of the actor to a StatefulSet is missing.
func (a *actor) lost(set *appsv1.StatefulSet) error {
	for what, kept := range a.foreign {
		if set.DeletionTimestamp == nil && !kept(set) {
			return fmt.Errorf("%s is missing", what)
		}
	}
	return nil
}

// is returns the possible models that match both the current state and the status.
func (l *live) is(p possible) possible {
	seen := l.server.Status.Scale
	if !l.asked || seen == nil {
		return nil
	}
	var is possible
	for _, m := range p {
		recorded := m.CarriedOut == nil || l.set.Annotations[v1beta1.DeclaredReplicasAnnotation] == fmt.Sprint(*m.CarriedOut)
		if *l.set.Spec.Replicas == m.Replicas && l.ours == m.Ours && recorded && scale.JudgeStatus(seen, m) == nil {
			is = append(is, m)
		}
	}
	return is
}

func (l *live) String() string {
	if l.set.Spec.Replicas == nil || l.server.Status.Scale == nil {
		return fmt.Sprintf("StatefulSet %q and MCPServer %q with status %+v", l.set.Name, l.server.Name, l.server.Status)
	}
	return fmt.Sprintf("a StatefulSet at %d, owned by the operator: %t, record %q, image %s, being deleted: %t; the status has "+
		"%d by %s, carried out %v, generation %d of %d, transfers %v, conditions %v; %v",
		*l.set.Spec.Replicas, l.ours, l.set.Annotations[v1beta1.DeclaredReplicasAnnotation], imageOf(l.set),
		l.set.DeletionTimestamp != nil, l.server.Status.Scale.Replicas, l.server.Status.Scale.Owner,
		ptr.Deref(l.server.Status.Scale.DeclaredReplicas, -1),
		l.server.Status.ObservedGeneration, l.server.Generation, l.server.Status.Scale.Transfers, l.server.Status.Conditions, l.lacks)
}

func imageOf(set *appsv1.StatefulSet) string {
	for _, container := range set.Spec.Template.Spec.Containers {
		if container.Name == "mcp" {
			return container.Image
		}
	}
	return ""
}

// version returns the resourceVersion of an object as a number. It increases with each write to the store.
func version(object client.Object) int64 {
	n, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// create creates the MCPServer. A deleted MCPServer with the same name does not matter.
func (a *actor) create(ctx context.Context, spec v1beta1.MCPServerSpec) error {
	a.image, a.hasVariable, a.foreign, a.takeBacks = spec.Image, len(spec.Env) > 0, map[string]scale.Kept{}, nil
	a.possible = possible{{Declared: spec.Replicas, Policy: spec.ReplicasConflictPolicy, Fresh: true, Replicas: -1}}
	// The pod templates change every few seconds, and the pods would be replaced all the time.
	spec.UpdateStrategy = &appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	server := &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.requests.Key.Namespace, Name: a.requests.Key.Name}, Spec: spec,
	}
	if err := a.requests.Client.Create(ctx, server); err != nil {
		return fmt.Errorf("creating MCPServer %s: %w", a.requests.Key, err)
	}
	a.endStep(version(server)) // the scale of a deleted MCPServer is no longer allowed
	return nil
}

// hold waits for the given time.
func hold(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(duration):
		return nil
	}
}
