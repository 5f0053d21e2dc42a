package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/scale"
)

const (
	// servers is the number of MCPServers in the storm.
	servers = 6
	// quietTime is how long the operators must not write when nothing is left to do.
	quietTime = 5 * time.Second
	// longest is the timeout of eventually. It allows for a busy machine.
	longest = 5 * time.Minute
)

// storm contains the MCPServers, an actor for each of them, and the operators.
type storm struct {
	ctx       context.Context
	fail      context.CancelCauseFunc
	namespace string
	actors    []*actor
	history   *history
	operators operators

	// calmly is held for reading by each actor during a step, and for writing while no actor may take a step.
	calmly sync.RWMutex
	// since is the end of the last fault in Unix nanoseconds. It is 0 during a fault.
	since atomic.Int64

	mark   int64                 // the end of the judged part of the audit log
	judged map[string]setVersion // the last judged version of each StatefulSet
}

// startStorm creates the MCPServers and starts their actors. Each actor waits until an operator has created its StatefulSet.
func startStorm(t *testing.T) *storm {
	t.Logf("-faults.seed=%d", *seed)
	namespace := newNamespace(t)
	ctx, fail := context.WithCancelCause(context.Background())
	s := &storm{ctx: ctx, fail: fail, namespace: namespace, judged: map[string]setVersion{}}
	t.Cleanup(func() { fail(errors.New("the storm is over")) })
	var err error
	s.mark, err = theCluster.AuditMark()
	must(t, err)
	s.history = watchHistory(ctx, namespace)
	s.isOver()
	var running sync.WaitGroup
	for i := range servers {
		a := &actor{storm: s, random: rand.New(rand.NewPCG(*seed, uint64(i)))}
		a.requests = scale.Requests{Client: theCluster.Client, Key: client.ObjectKey{Namespace: namespace, Name: fmt.Sprintf("web-%d", i)}}
		spec := v1beta1.MCPServerSpec{Image: "registry.example/server:1", ReplicasConflictPolicy: v1beta1.ReplicasConflictYield}
		if i%2 == 1 {
			replicas := a.drawReplicas()
			spec.Replicas = &replicas
		}
		must(t, a.create(t.Context(), spec))
		s.actors = append(s.actors, a)
		running.Go(func() {
			if err := a.run(ctx); err != nil {
				fail(err) // only the first error counts
			}
		})
	}
	t.Cleanup(func() { s.operators.stop(t) })
	t.Cleanup(running.Wait)
	t.Cleanup(func() { fail(errors.New("the storm is over")) })
	return s
}

// begins and isOver mark the begin and the end of a fault.
func (s *storm) begins() { s.since.Store(0) }
func (s *storm) isOver() { s.since.Store(time.Now().UnixNano()) }

// calmSince returns the end of the last fault. Calm is false during a fault.
func (s *storm) calmSince() (since time.Time, calm bool) {
	at := s.since.Load()
	return time.Unix(0, at), at != 0
}

// everyActorTakesAStep waits until each actor has finished a step: the actor has taken its actions, and the operator has reacted.
func (s *storm) everyActorTakesAStep(t *testing.T) {
	t.Helper()
	for _, a := range s.actors {
		before := a.settled.Load()
		must(t, wait.PollUntilContextCancel(s.ctx, lookInterval, true, func(context.Context) (bool, error) {
			return a.settled.Load() > before, nil
		}), context.Cause(s.ctx))
	}
}

// calm waits until every actor has finished its step, and stops the actors until the returned function is called or the test ends.
func (s *storm) calm(t *testing.T) (goOn func()) {
	t.Helper()
	s.calmly.Lock()
	goOn = sync.OnceFunc(s.calmly.Unlock)
	t.Cleanup(goOn)
	must(t, context.Cause(s.ctx))
	return goOn
}

// suffer causes a fault during the storm, and judges the result.
func (s *storm) suffer(t *testing.T, f fault) {
	if s.operators.become(t, f.operators) {
		s.everyActorTakesAStep(t)
	}
	mark, err := theCluster.AuditMark()
	must(t, err)
	actions, restarts := s.actions(), s.operators.restarts()

	s.begins()
	defer s.isOver()
	begun := time.Now()
	f.strike(t, s)
	s.isOver()
	over := time.Now()
	s.everyActorTakesAStep(t)
	recovery := time.Since(over)

	s.calm(t)
	s.allAreReady(t)
	versions := s.judge(t)
	restarts = s.operators.restarts() - restarts
	if restarts < f.restarts {
		t.Errorf("operators were restarted %d times, wanted at least %d", restarts, f.restarts)
	}
	writes, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
	must(t, err)
	t.Logf("| fault | lasted | actions | writes of the operators | versions judged | restarts | recovery |")
	t.Logf("| %s | %.1f s | %d | %d | %d | %d | %.1f s |", f.name, over.Sub(begun).Seconds(), s.actions()-actions,
		countWrites(writes, s.namespace), versions, restarts, recovery.Seconds())
}

func (s *storm) actions() int32 {
	var sum int32
	for _, a := range s.actors {
		sum += a.actions.Load()
	}
	return sum
}

func countWrites(requests []cluster.Request, namespace string) (writes int) {
	for _, request := range requests {
		if request.IsWrite() && request.Namespace == namespace {
			writes++
		}
	}
	return writes
}

// allAreReady waits until every MCPServer of the storm is Ready.
func (s *storm) allAreReady(t *testing.T) {
	t.Helper()
	eventually(t, "every MCPServer to be Ready", func(ctx context.Context) (string, bool) {
		must(t, theCluster.StartEnded(ctx))
		return areReady(ctx, s.namespace)
	})
}

func areReady(ctx context.Context, namespace string) (string, bool) {
	var list v1beta1.MCPServerList
	if err := theCluster.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err.Error(), false
	}
	for _, server := range list.Items {
		ready := apimeta.FindStatusCondition(server.Status.Conditions, v1beta1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != server.Generation {
			return fmt.Sprintf("%s: %+v", server.Name, ready), false
		}
	}
	return "", len(list.Items) > 0
}

// end stops the storm, and verifies that the operators have nothing left to do.
func (s *storm) end(t *testing.T) {
	s.operators.become(t, asDeployed)
	s.everyActorTakesAStep(t)
	s.calm(t)
	s.allAreReady(t)
	for _, a := range s.actors {
		live, err := a.look(t.Context())
		must(t, err, a.lost(live.set))
	}
	s.judge(t)
	s.operatorsAreSilent(t)
	s.operators.stop(t)
	s.operators.didNotPanic(t)
}

// operatorsAreSilent waits until the audit log of the API server shows no write of the operators for quietTime.
func (s *storm) operatorsAreSilent(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("no write of the operators in %s", quietTime), func(ctx context.Context) (string, bool) {
		mark, err := theCluster.AuditMark()
		must(t, err)
		must(t, hold(ctx, quietTime))
		requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
		must(t, err)
		for _, request := range requests {
			if request.IsWrite() {
				return request.String(), false
			}
		}
		return "", true
	})
}

// newNamespace creates a namespace that is deleted when the test ends.
func newNamespace(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "faults-"}}
	must(t, theCluster.Client.Create(t.Context(), namespace))
	t.Cleanup(func() { must(t, theCluster.Client.Delete(context.Background(), namespace)) })
	return namespace.Name
}

// eventually waits until a condition is true. If the condition does not become true in time, eventually fails with the last state.
func eventually(t *testing.T, what string, is func(context.Context) (string, bool)) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), lookInterval, longest, true, func(context.Context) (bool, error) {
		state, done := is(t.Context())
		last = state
		return done, nil
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v; last: %s", what, err, last)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
