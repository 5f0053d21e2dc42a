// Package monitoring proves deploy/monitoring with a real Prometheus, which scrapes the operator on a real control plane, and real runners: every
// alert fires in the incident that it is for and not in health, and every panel of the dashboards shows data.
//
// Prometheus is Debian's package, which make prometheus unpacks, or the one in the PATH. Without it, the tests print the reason and pass, or fail
// if REQUIRE_PROMETHEUS is true, as in CI.
package monitoring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// root is the root of the repository.
var root = filepath.Join("..", "..")

// theCluster is the control plane of the suite. operator runs on it.
var (
	theCluster *cluster.Cluster
	operator   *cluster.Operator
)

// programs are the executables of Prometheus.
var programs struct{ prometheus, promtool string }

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		serve()
		return
	}
	logf.SetLogger(logr.Discard())
	if err := findPrograms(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if os.Getenv("REQUIRE_PROMETHEUS") == "true" {
			os.Exit(1)
		}
		return
	}
	components := []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}
	os.Exit(cluster.RunSuite("monitoring", components, func(ctx context.Context, c *cluster.Cluster) (code int, err error) {
		theCluster = c
		operator, err = c.StartOperator(ctx, "--leader-elect", "--leader-election-namespace="+cluster.OperatorNamespace,
			"--runner-image=registry.example/mcpserver-operator:1", "--image-lookup=false")
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, operator.Stop()) }()
		return m.Run(), nil
	}))
}

// findPrograms looks for Prometheus and promtool.
func findPrograms() error {
	for name, path := range map[string]*string{"prometheus": &programs.prometheus, "promtool": &programs.promtool} {
		built, err := filepath.Abs(filepath.Join(root, "bin", "prometheus", name))
		if err != nil {
			return err
		}
		if _, err := os.Stat(built); err == nil {
			*path = built
		} else if *path, err = exec.LookPath(name); err != nil {
			return fmt.Errorf("the tests of the alerts and dashboards do not run: no %s in bin/prometheus or in the PATH. On Debian, run make prometheus", name)
		}
	}
	return nil
}
