// Package faults runs the operator as it is deployed: two processes, one of which is the leader. During a storm of changes by users, autoscalers
// and other controllers, the tests kill and freeze processes, disturb the network, and remove the CRD. No confirmed write may be lost, no scale
// may be wrong at any time, and everything must recover without intervention.
//
//	go test ./tests/faults -v -timeout=60m                       # most faults once
//	go test ./tests/faults -v -timeout=3h -faults.rounds=10      # the long run, with all faults
//	go test ./tests/faults -v -run 'TestFaults/etcd'             # one fault
package faults

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	theCluster *cluster.Cluster

	rounds = flag.Int("faults.rounds", 1, "how often each fault happens; if more than 1, the run includes more faults")
	seed   = flag.Uint64("faults.seed", uint64(time.Now().UnixNano()), "the seed of the actions in the storm")
)

func TestMain(m *testing.M) {
	flag.Parse()
	logf.SetLogger(logr.Discard())
	options := controlplane.Options{
		Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler},
		Durable:    true, // etcd is killed
	}
	os.Exit(cluster.RunSuiteWith("faults", options, func(_ context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return m.Run(), nil
	}))
}
