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

// RunSuite runs the tests of a suite on a cluster of the given components, with the API and the permissions of the
// operator installed, and returns the exit code for the process. The cluster is stopped when the tests end or are
// interrupted; its logs are kept when one fails.
func RunSuite(name string, components []string, tests func(ctx context.Context, c *Cluster) (code int, err error)) int {
	return RunSuiteWith(name, controlplane.Options{Components: components}, tests)
}

// RunSuiteWith is RunSuite with all the options of a control plane.
func RunSuiteWith(name string, options controlplane.Options, tests func(ctx context.Context, c *Cluster) (code int, err error)) int {
	return RunSuiteBare(name, options, func(ctx context.Context, c *Cluster) (int, error) {
		if err := c.Install(ctx); err != nil {
			return 1, err
		}
		return tests(ctx, c)
	})
}

// RunSuiteBare is RunSuiteWith for tests that install the operator themselves: nothing of it is on the cluster.
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

// WithOperator runs the tests of a suite while the operator runs, and stops it afterwards.
func (c *Cluster) WithOperator(ctx context.Context, tests func(o *Operator) (code int, err error)) (code int, err error) {
	// At this level each pass is in the log: see WaitForPassOver.
	o, err := c.StartOperator(ctx, "--zap-log-level=5")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, o.Stop()) }()
	return tests(o)
}

// eventuallyTimeout is how long something may take that has to happen.
const eventuallyTimeout = 90 * time.Second

// Eventually waits until something is true; the error has how it was last.
func Eventually(ctx context.Context, what string, is func(context.Context) (state string, done bool)) error {
	return EventuallyWithin(ctx, eventuallyTimeout, what, is)
}

// EventuallyWithin is Eventually for what may take another time.
func EventuallyWithin(
	ctx context.Context, timeout time.Duration, what string, is func(context.Context) (state string, done bool),
) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, pollInterval, timeout, true, func(context.Context) (bool, error) {
		state, done := is(ctx) // not the context of the poll: at the deadline its requests would fail before it does
		last = state
		return done, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w; last: %s", what, err, last)
	}
	return nil
}
