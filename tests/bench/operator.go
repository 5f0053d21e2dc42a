package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/tests/cluster"
)

// operatorUnderTest is an operator process with profiling endpoints.
type operatorUnderTest struct {
	*cluster.Operator
	profileAddress string
	profiles       string
}

// cluster is the cluster for which the operator and the raw writer build children: the same, so that both write the same objects.
func (o options) cluster() applyconfigs.Cluster {
	in := applyconfigs.Cluster{IPFamily: corev1.IPv4Protocol}
	if o.runner {
		in.RunnerImage = "registry.example/mcpserver-operator:1"
	}
	return in
}

func startOperator(ctx context.Context, c *cluster.Cluster, o options) (*operatorUnderTest, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, fmt.Errorf("looking for a free port: %w", err)
	}
	args := []string{fmt.Sprintf("--concurrency=%d", o.concurrency), "--pprof-bind-address=" + address}
	if image := o.cluster().RunnerImage; image != "" {
		args = append(args, "--runner-image="+image)
	}
	op, err := c.StartOperator(ctx, args...)
	if err != nil {
		return nil, err
	}
	return &operatorUnderTest{Operator: op, profileAddress: address, profiles: o.profiles}, nil
}

// usage is the resource usage of the operator.
type usage struct {
	CPU      time.Duration
	Resident float64 // bytes
	Heap     float64 // bytes, including garbage that is not collected yet
	Passes   int
}

func (op *operatorUnderTest) usage(ctx context.Context) (usage, error) {
	families, err := op.Metrics(ctx)
	if err != nil {
		return usage{}, err
	}
	value := func(name string) float64 {
		var sum float64
		for _, metric := range families[name].GetMetric() {
			if families[name].GetType() == dto.MetricType_COUNTER {
				sum += metric.GetCounter().GetValue()
			} else {
				sum += metric.GetGauge().GetValue()
			}
		}
		return sum
	}
	return usage{
		CPU:      time.Duration(value("process_cpu_seconds_total") * float64(time.Second)),
		Resident: value("process_resident_memory_bytes"),
		Heap:     value("go_memstats_heap_alloc_bytes"),
		Passes:   int(value("controller_runtime_reconcile_total")),
	}, nil
}

// profile records a CPU profile of the operator and stores it under the given name.
func (op *operatorUnderTest) profile(ctx context.Context, name string, duration time.Duration) error {
	return op.keep(ctx, fmt.Sprintf("profile?seconds=%d", int(duration.Seconds())), name+".cpu")
}

// heap records a profile of the live heap, after a garbage collection.
func (op *operatorUnderTest) heap(ctx context.Context, name string) error {
	return op.keep(ctx, "heap?gc=1", name+".heap")
}

func (op *operatorUnderTest) keep(ctx context.Context, what, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+op.profileAddress+"/debug/pprof/"+what, nil)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a profile: %s: %w", response.Status, err)
	}
	path := filepath.Join(op.profiles, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("keeping a profile: %w", err)
	}
	return nil
}

// showProfiles writes a summary next to each profile. It runs after all measurements.
func (op *operatorUnderTest) showProfiles(ctx context.Context) error {
	for _, kind := range []string{"*.cpu", "*.heap"} {
		paths, err := filepath.Glob(filepath.Join(op.profiles, kind))
		if err != nil {
			return fmt.Errorf("looking for profiles: %w", err)
		}
		for _, path := range paths {
			top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=45", op.Binary(), path).Output()
			if err != nil {
				return fmt.Errorf("reading the profile %s: %w", path, err)
			}
			if err := os.WriteFile(path+".txt", top, 0o600); err != nil {
				return fmt.Errorf("keeping a profile: %w", err)
			}
		}
	}
	return nil
}
