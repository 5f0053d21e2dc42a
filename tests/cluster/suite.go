package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"mcpserver-operator/tests/controlplane"
)

// RunSuite runs the tests of a suite and returns the exit code for the process. The cluster has the given components. The CRD and
// the permissions of the operator are installed. RunSuite stops the cluster when the tests end or are interrupted, and keeps the
// logs if a test fails.
func RunSuite(name string, components []string, tests func(ctx context.Context, c *Cluster) (code int, err error)) int {
	return RunSuiteWith(name, controlplane.Options{Components: components}, tests)
}

// RunSuiteWith is RunSuite with all options of a control plane.
func RunSuiteWith(name string, options controlplane.Options, tests func(ctx context.Context, c *Cluster) (code int, err error)) int {
	return RunSuiteBare(name, options, func(ctx context.Context, c *Cluster) (int, error) {
		if err := c.Install(ctx); err != nil {
			return 1, err
		}
		return tests(ctx, c)
	})
}

// RunSuiteBare is RunSuiteWith for tests that install the operator themselves. It installs nothing.
func RunSuiteBare(name string, options controlplane.Options, tests func(ctx context.Context, c *Cluster) (code int, err error)) int {
	code, err := runSuite(options, tests)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return code
}

func runSuite(options controlplane.Options, tests func(ctx context.Context, c *Cluster) (int, error)) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := StartWith(ctx, options)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, c.Stop(code != 0 || err != nil)) }()
	return tests(ctx, c)
}

// WithOperator starts the operator, runs the tests of a suite, and stops the operator.
func (c *Cluster) WithOperator(ctx context.Context, tests func(o *Operator) (code int, err error)) (code int, err error) {
	// At this level the operator logs each pass, which WaitForPassOver requires.
	o, err := c.StartOperator(ctx, "--zap-log-level=5")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, o.Stop()) }()
	return tests(o)
}

// eventuallyTimeout limits how long Eventually waits.
const eventuallyTimeout = 90 * time.Second

// Eventually waits until a condition is true. Its error contains the last observed state.
func Eventually(ctx context.Context, what string, is func(context.Context) (state string, done bool)) error {
	return EventuallyWithin(ctx, eventuallyTimeout, what, is)
}

// EventuallyWithin is Eventually with a different timeout.
func EventuallyWithin(
	ctx context.Context, timeout time.Duration, what string, is func(context.Context) (state string, done bool),
) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, pollInterval, timeout, true, func(context.Context) (bool, error) {
		state, done := is(ctx) // not the poll's context: at its deadline the check would fail, and the last state would be lost
		last = state
		return done, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w; last state: %s", what, err, last)
	}
	return nil
}
