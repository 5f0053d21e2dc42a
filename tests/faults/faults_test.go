package faults

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"mcpserver-operator/tests/controlplane"
)

// fault is something that goes wrong while the storm goes on.
type fault struct {
	name      string
	operators *setup
	// strike makes it go wrong for a time. It is over when it returns.
	strike func(*testing.T, *storm)
	// restarts is how often it ends an operator, at the least.
	restarts int
	// long is true for one that only the long run has.
	long bool
}

// faults are in an order in which the operators are seldom set up anew.
var faults = []fault{
	{name: "nothing", operators: asDeployed, strike: lasts(5 * time.Second), long: true}, // what the others compare with
	{name: "leader killed", operators: asDeployed, strike: leaderKilled, restarts: 1, long: true},
	{name: "leader frozen past its lease", operators: asDeployed, strike: leaderFrozen, restarts: 1},
	{name: "kube-apiserver killed", operators: asDeployed, strike: killed(controlplane.KubeAPIServer)},
	{name: "etcd killed", operators: asDeployed, strike: killed(controlplane.Etcd)},
	{name: "CRD removed and put back", operators: asDeployed, strike: crdRemoved},
	{name: "poisoned MCPServers", operators: asDeployed, strike: poisoned},
	{name: "100 MCPServers deleted while they are scaled", operators: asDeployed, strike: hundredDeleted},
	{name: "operator killed again and again", operators: alone, strike: operatorKilled, restarts: kills},
	{name: "1 s latency", operators: throughNetwork, strike: latency},
	{name: "connections reset", operators: throughNetwork, strike: connectionsReset},
	{name: "no packet arrives", operators: throughNetwork, strike: noPacketArrives, restarts: 1, long: true},
	{name: "answers 409, 429, 500 and 503", operators: throughAnswers, strike: wrongAnswers},
	{name: "watch streams cut", operators: throughAnswers, strike: watchesCut},
}

// TestFaults: whatever goes wrong, nothing that was answered is lost, the scale is never wrong for an instant, what others
// have added stays, and everything recovers without help.
func TestFaults(t *testing.T) {
	s := startStorm(t)
	for range *rounds {
		for _, f := range faults {
			if f.long && *rounds == 1 {
				continue
			}
			if !t.Run(f.name, func(t *testing.T) { s.suffer(t, f) }) {
				t.FailNow() // what comes after it would not be its own doing
			}
		}
	}
	s.end(t)
}

// lasts is a fault of a kind that is there all the time, or none.
func lasts(duration time.Duration) func(*testing.T, *storm) {
	return func(t *testing.T, _ *storm) { must(t, hold(t.Context(), duration)) }
}

// kills is how often the operator is killed.
const kills = 8

// operatorKilled kills the operator at random instants; most of them are in the middle of something.
func operatorKilled(t *testing.T, s *storm) {
	for range kills {
		must(t, hold(t.Context(), 200*time.Millisecond+rand.N(2*time.Second)))
		must(t, s.operators.running[0].kill())
	}
}

// leaderKilled leaves a lease that nobody renews.
func leaderKilled(t *testing.T, s *storm) { must(t, s.operators.leader(t).kill()) }

// leaderFrozen freezes the leader until the other has taken over, so that it wakes up with a past that is not so any more.
// It has to notice, and to end itself.
func leaderFrozen(t *testing.T, s *storm) {
	frozen := s.operators.leader(t)
	exited := frozen.exited()
	must(t, frozen.operator.Freeze())
	t.Cleanup(func() { _ = frozen.operator.Thaw() }) // it may have ended
	eventually(t, "the other operator to lead", func(ctx context.Context) (string, bool) {
		for _, k := range s.operators.running {
			if k != frozen && k.leads(ctx) {
				return "", true
			}
		}
		return "", false
	})
	must(t, hold(t.Context(), 2*time.Second)) // with another leader at work
	must(t, frozen.operator.Thaw())
	eventually(t, "the thawed leader to end itself", func(context.Context) (string, bool) {
		select {
		case <-exited:
			return "", true
		default:
			return "it still runs", false
		}
	})
}

// killed kills a component of the control plane, and starts it again later on what it had stored.
func killed(component string) func(*testing.T, *storm) {
	return func(t *testing.T, _ *storm) {
		must(t, theCluster.Kill(component))
		must(t, hold(t.Context(), 5*time.Second))
		must(t, theCluster.StartAgain(t.Context(), component))
	}
}
