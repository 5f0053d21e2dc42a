// Package storm runs the operator against random sequences of actions of users, autoscalers and other controllers, on a real API server. It
// compares the results with a model of the scale protocol. The tests run the passes of the operator one by one, so that each sequence is
// repeatable: rapid can shrink a failure, and the seed replays it.
//
//	go test ./tests/storm -run TestStorm -timeout=120m -rapid.checks=1000    # the long run
//	go test ./tests/storm -run TestStorm -rapid.seed=SEED                    # replay a failure
package storm

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	theCluster     *cluster.Cluster
	operatorConfig *rest.Config
)

func TestMain(m *testing.M) {
	// By default, run few sequences with a fixed seed. The command line can override these values.
	for name, value := range map[string]string{"rapid.checks": "15", "rapid.steps": "30", "rapid.seed": "20260101", "rapid.shrinktime": "2m", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	flag.Parse()
	logf.SetLogger(logr.Discard())
	os.Exit(cluster.RunSuite("storm", []string{controlplane.KubeControllerManager}, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		var err error
		if operatorConfig, err = c.OperatorConfig(ctx); err != nil {
			return 1, err
		}
		return m.Run(), nil
	}))
}
