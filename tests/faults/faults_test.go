package faults

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"mcpserver-operator/tests/controlplane"
)

// fault is a failure that happens during the storm.
type fault struct {
	name      string
	operators *setup
	// strike causes the failure. The failure is over when strike returns.
	strike func(*testing.T, *storm)
	// restarts is the minimum number of operators that the fault ends.
	restarts int
	// long is true if only the long run includes the fault.
	long bool
}

// faults is ordered so that the setup of the operators seldom changes.
var faults = []fault{
	{name: "none", operators: asDeployed, strike: lasts(5 * time.Second), long: true}, // for comparison
	{name: "leader killed", operators: asDeployed, strike: leaderKilled, restarts: 1, long: true},
	{name: "leader frozen until its lease has expired", operators: asDeployed, strike: leaderFrozen, restarts: 1},
	{name: "kube-apiserver killed", operators: asDeployed, strike: killed(controlplane.KubeAPIServer)},
	{name: "etcd killed", operators: asDeployed, strike: killed(controlplane.Etcd)},
	{name: "CRD removed and restored", operators: asDeployed, strike: crdRemoved},
	{name: "MCPServers that cannot be carried out", operators: asDeployed, strike: poisoned},
	{name: "100 MCPServers deleted while they are scaled", operators: asDeployed, strike: hundredDeleted},
	{name: "operator killed repeatedly", operators: alone, strike: operatorKilled, restarts: kills},
	{name: "1 s latency", operators: throughNetwork, strike: latency},
	{name: "connections reset", operators: throughNetwork, strike: connectionsReset},
	{name: "all packets lost", operators: throughNetwork, strike: noPacketArrives, restarts: 1, long: true},
	{name: "answers 409, 429, 500 and 503", operators: throughAnswers, strike: wrongAnswers},
	{name: "watch streams cut", operators: throughAnswers, strike: watchesCut},
}

// TestFaults verifies in each fault that no confirmed write is lost, that the scale is never wrong, that additions of other clients are kept, and
// that everything recovers without intervention.
func TestFaults(t *testing.T) {
	s := startStorm(t)
	for range *rounds {
		for _, f := range faults {
			if f.long && *rounds == 1 {
				continue
			}
			if !t.Run(f.name, func(t *testing.T) { s.suffer(t, f) }) {
				t.FailNow() // this fault could affect the following faults
			}
		}
	}
	s.end(t)
}

// lasts does nothing for the given time.
func lasts(duration time.Duration) func(*testing.T, *storm) {
	return func(t *testing.T, _ *storm) { must(t, hold(t.Context(), duration)) }
}

// kills is the number of times that operatorKilled kills the operator.
const kills = 8

// operatorKilled kills the operator at random times.
func operatorKilled(t *testing.T, s *storm) {
	for range kills {
		must(t, hold(t.Context(), 200*time.Millisecond+rand.N(2*time.Second)))
		must(t, s.operators.running[0].kill())
	}
}

// leaderKilled kills the leader. Its lease is not released, and must expire.
func leaderKilled(t *testing.T, s *storm) { must(t, s.operators.leader(t).kill()) }

// leaderFrozen freezes the leader until the other operator has taken over. The resumed operator has stale state. It must notice that it has lost
// the lease, and exit.
func leaderFrozen(t *testing.T, s *storm) {
	frozen := s.operators.leader(t)
	exited := frozen.exited()
	must(t, frozen.operator.Freeze())
	t.Cleanup(func() { _ = frozen.operator.Thaw() }) // an error means that the operator has exited
	eventually(t, "the other operator to become the leader", func(ctx context.Context) (string, bool) {
		for _, k := range s.operators.running {
			if k != frozen && k.leads(ctx) {
				return "", true
			}
		}
		return "", false
	})
	must(t, hold(t.Context(), 2*time.Second)) // the other operator leads in the meantime
	must(t, frozen.operator.Thaw())
	eventually(t, "the resumed operator to exit", func(context.Context) (string, bool) {
		select {
		case <-exited:
			return "", true
		default:
			return "it still runs", false
		}
	})
}

// killed kills a component of the control plane, and restarts it after a few seconds with the stored state.
func killed(component string) func(*testing.T, *storm) {
	return func(t *testing.T, _ *storm) {
		must(t, theCluster.Kill(component))
		must(t, hold(t.Context(), 5*time.Second))
		must(t, theCluster.StartAgain(t.Context(), component))
	}
}
