// Package e2e verifies the promises to users on a real control plane with the real kubectl. Each test covers one promise.
// vocabulary_test.go defines the steps of the tests.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	// testEnv runs the features.
	testEnv env.Environment
	// theCluster is the cluster of the suite.
	theCluster *cluster.Cluster
	// suiteOperator is the operator that the suite starts. It runs at the beginning of each feature.
	suiteOperator *cluster.Operator
	// operator is the operator of the present step: suiteOperator, or one by which the feature has replaced it.
	operator *cluster.Operator
)

func TestMain(m *testing.M) {
	components := []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}
	os.Exit(cluster.RunSuite("e2e", components, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		return c.WithOperator(ctx, func(o *cluster.Operator) (int, error) {
			suiteOperator, operator = o, o
			var err error
			testEnv, err = env.NewWithContext(ctx, envconf.New().WithKubeconfigFile(c.Kubeconfig).WithFailFast())
			if err != nil {
				return 1, fmt.Errorf("making the test environment: %w", err)
			}
			return testEnv.Run(m), nil
		})
	}))
}
