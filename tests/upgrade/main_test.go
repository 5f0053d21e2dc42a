// Package upgrade tests an upgrade from an earlier version of the operator, with its CRD and 100 MCPServers, to the present version, a
// rollback, and the upgrade again. The earlier operator runs as a process, built from its source in testdata/.
package upgrade

import (
	"context"
	"os"
	"testing"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// theCluster is the cluster of the suite.
var theCluster *cluster.Cluster

func TestMain(m *testing.M) {
	options := controlplane.Options{Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}}
	os.Exit(cluster.RunSuiteBare("upgrade", options, func(_ context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return m.Run(), nil
	}))
}

var (
	must       = cluster.Must
	eventually = cluster.MustEventually
)
