package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"mcpserver-operator/tests/cluster"
)

// ownCPU returns a function for the CPU time of this process from now on, which includes the raw writer.
func ownCPU() func(context.Context) (time.Duration, error) {
	var before syscall.Rusage
	beforeErr := syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func(context.Context) (time.Duration, error) {
		var now syscall.Rusage
		if err := errors.Join(beforeErr, syscall.Getrusage(syscall.RUSAGE_SELF, &now)); err != nil {
			return 0, fmt.Errorf("reading the CPU time of this process: %w", err)
		}
		return time.Duration(now.Utime.Nano() + now.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()), nil
	}
}

// cpu returns the CPU time of the operator.
func (op *operatorUnderTest) cpu(ctx context.Context) (time.Duration, error) {
	used, err := op.usage(ctx)
	return used.CPU, err
}

// apiServerCPU returns the CPU time of kube-apiserver.
func apiServerCPU(ctx context.Context, c *cluster.Cluster) (time.Duration, error) {
	content, err := c.Clients.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the metrics of kube-apiserver: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(content))
	if err != nil {
		return 0, fmt.Errorf("parsing the metrics of kube-apiserver: %w", err)
	}
	var spent float64
	for _, metric := range families["process_cpu_seconds_total"].GetMetric() {
		spent += metric.GetCounter().GetValue()
	}
	return time.Duration(spent * float64(time.Second)), nil
}
