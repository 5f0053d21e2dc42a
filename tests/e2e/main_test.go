// Package e2e shows, on a real control plane and with the real kubectl, what users are promised. Each test is one
// promise; vocabulary_test.go has the words that they are written in.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

var (
	// testEnv runs the features.
	testEnv env.Environment
	// theCluster is where they run.
	theCluster *cluster.Cluster
	// operator is the operator that runs there.
	operator *cluster.Operator
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	theCluster, err = cluster.Start(ctx, controlplane.KubeControllerManager, controlplane.KubeScheduler)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, theCluster.Stop(code != 0 || err != nil)) }()
	if err := theCluster.Install(ctx); err != nil {
		return 1, err
	}
	operator, err = theCluster.StartOperator(ctx, "--zap-log-level=5")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, operator.Stop()) }()

	testEnv, err = env.NewWithContext(ctx, envconf.New().WithKubeconfigFile(theCluster.Kubeconfig).WithFailFast())
	if err != nil {
		return 1, fmt.Errorf("making the test environment: %w", err)
	}
	return testEnv.Run(m), nil
}
