package faults

import (
	"bytes"
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"mcpserver-operator/tests/cluster"
)

// setup describes how operators run.
type setup struct {
	name    string
	number  int
	connect func(*testing.T, *rest.Config) // changes the connection to the API server; nil for a direct connection
	args    []string
}

var (
	// asDeployed runs two operators with leader election, as deploy/ does.
	asDeployed = &setup{name: "as deployed", number: 2, args: leaderElection}
	// alone runs one operator without leader election.
	alone = &setup{name: "alone", number: 1}

	leaderElection = []string{"--leader-elect", "--leader-election-namespace=" + cluster.OperatorNamespace}
)

// operators are the running operators. Each operator is restarted when it exits, as the kubelet does.
type operators struct {
	setup   *setup
	running []*kept
	former  []*kept
}

// become changes the setup of the operators, and reports whether this was necessary.
func (o *operators) become(t *testing.T, s *setup) bool {
	t.Helper()
	if o.setup == s {
		return false
	}
	o.stop(t)
	o.setup = s
	for range s.number {
		connect := func(config *rest.Config) {
			if s.connect != nil {
				s.connect(t, config)
			}
		}
		operator, err := theCluster.StartOperatorThrough(t.Context(), connect, s.args...)
		must(t, err)
		o.running = append(o.running, keep(operator))
	}
	return true
}

// stop ends the operators as Kubernetes does.
func (o *operators) stop(t *testing.T) {
	t.Helper()
	for _, k := range o.running {
		must(t, k.stop())
	}
	o.former, o.running, o.setup = append(o.former, o.running...), nil, nil
}

// restarts returns the number of restarts of the running operators.
func (o *operators) restarts() int {
	var sum int32
	for _, k := range o.running {
		sum += k.restarts.Load()
	}
	return int(sum)
}

// leader waits until an operator is the leader, and returns it.
func (o *operators) leader(t *testing.T) (leader *kept) {
	t.Helper()
	eventually(t, "an operator to be the leader", func(ctx context.Context) (string, bool) {
		for _, k := range o.running {
			if k.leads(ctx) {
				leader = k
			}
		}
		return "", leader != nil
	})
	return leader
}

// failedRequests returns the number of requests of the running operators that got no answer.
func (o *operators) failedRequests(t *testing.T) (failed float64) {
	t.Helper()
	for _, k := range o.running {
		families, err := k.operator.Metrics(t.Context())
		must(t, err)
		for _, metric := range families["rest_client_requests_total"].GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "code" && label.GetValue() == "<error>" {
					failed += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return failed
}

// didNotPanic fails if an operator has panicked. If controller-runtime recovers from a panic, only the log shows it.
func (o *operators) didNotPanic(t *testing.T) {
	t.Helper()
	for _, k := range append(o.former, o.running...) {
		log, err := os.ReadFile(k.operator.LogFile())
		must(t, err)
		if bytes.Contains(log, []byte("panic")) {
			t.Errorf("an operator has panicked: see %s", k.operator.LogFile())
		}
	}
}

// kept is an operator that is restarted when it exits.
type kept struct {
	operator *cluster.Operator
	restarts atomic.Int32

	mutex sync.Mutex // held while the operator is being started
	end   context.CancelFunc
	ended chan struct{}
}

func keep(operator *cluster.Operator) *kept {
	ctx, end := context.WithCancel(context.Background())
	k := &kept{operator: operator, end: end, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-k.exited():
			}
			if k.startAgain(ctx) != nil {
				_ = hold(ctx, time.Second) // the API server may be unavailable
			}
		}
	}()
	return k
}

// startAgain starts the operator. An operator that does not become ready is ended by Start, so that it is started again.
func (k *kept) startAgain(ctx context.Context) error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.restarts.Add(1)
	return k.operator.Start(ctx)
}

func (k *kept) exited() <-chan struct{} {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.operator.Exited()
}

// kill ends the operator with SIGKILL.
func (k *kept) kill() error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.operator.Kill()
}

func (k *kept) stop() error {
	k.end()
	<-k.ended
	return k.operator.Stop()
}

// leads reports whether the operator is the leader, according to its metrics.
func (k *kept) leads(ctx context.Context) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	families, err := k.operator.Metrics(ctx)
	if err != nil {
		return false // the operator does not run, or is frozen
	}
	for _, metric := range families["leader_election_master_status"].GetMetric() {
		if metric.GetGauge().GetValue() == 1 {
			return true
		}
	}
	return false
}
