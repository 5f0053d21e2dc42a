// Package faults runs the operator as it is deployed, two processes of which one leads, on a control plane that is not
// spared: while a storm of users, autoscalers and other controllers goes on, processes are killed and frozen, the network
// fails, the API is taken away. Nothing that was answered may be lost, no scale may be wrong for an instant, and all has
// to recover without help.
//
//	go test ./tests/faults -v -timeout=60m                       # most faults once
//	go test ./tests/faults -v -timeout=3h -faults.rounds=10      # the long run, with all of them
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

	rounds = flag.Int("faults.rounds", 1, "how often each fault strikes; more than 1 for the long run, which has more of them")
	seed   = flag.Uint64("faults.seed", uint64(time.Now().UnixNano()), "what the storm does is drawn from it")
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
