// Package keda tests MCPServers with KEDA: the real operator of KEDA and its server of external metrics run as processes, with the permissions and the
// CRDs of KEDA's module, against a real control plane.
//
// "make keda-test" builds KEDA, which takes minutes, and runs the tests. Without the executables in bin/keda, the tests print the reason and pass,
// or fail if REQUIRE_KEDA is true. tests/autoscaling simulates the writes of KEDA in "make test".
package keda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// root is the root of the repository.
var root = filepath.Join("..", "..")

// theCluster is the control plane of the suite, with the operator and KEDA.
var theCluster *cluster.Cluster

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	for _, program := range []string{operatorProgram, adapterProgram} {
		if _, err := os.Stat(program); err != nil {
			fmt.Fprintf(os.Stderr, "the tests with KEDA do not run: %v. Run make keda-test\n", err)
			if os.Getenv("REQUIRE_KEDA") == "true" {
				os.Exit(1)
			}
			return
		}
	}
	components := []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}
	os.Exit(cluster.RunSuite("keda", components, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return c.WithOperator(ctx, func(*cluster.Operator) (code int, err error) {
			keda, err := startKEDA(ctx, c)
			if err != nil {
				return 1, err
			}
			defer func() { err = errors.Join(err, keda.stop(code != 0)) }()
			return m.Run(), nil
		})
	}))
}

var (
	must       = cluster.Must
	eventually = cluster.MustEventually
)
