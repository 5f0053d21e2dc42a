// Command bench compares the runner with the HTTP of the server itself and with two other bridges. All take turns in the same run, because the speed of a
// shared machine changes. It prints the tables of docs/performance.md about the runner.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options select what to measure.
type options struct {
	// rounds is how often each target is measured.
	rounds int
	// clients call at the same time, each of them calls times in a round. One client alone calls alone times.
	clients, calls, alone int
	// opens is the number of sessions that a round opens, one after the other.
	opens int
	// settle is the time between the last request and a measurement of memory.
	settle time.Duration
	// parts are the measurements to make.
	parts []string
}

// sessions are the numbers of sessions for which memory is measured.
var sessions = []int{20, 200}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 15, "how often each target is measured")
	flag.IntVar(&o.clients, "clients", 20, "the number of clients that call at the same time")
	flag.IntVar(&o.calls, "calls", 25, "the number of calls of each client in a round")
	flag.IntVar(&o.alone, "alone", 200, "the number of calls of a client that is alone in a round")
	flag.IntVar(&o.opens, "opens", 5, "the number of sessions that are opened in a round")
	flag.DurationVar(&o.settle, "settle", 4*time.Second, "the time between the last request and a measurement of memory")
	parts := flag.String("parts", "calls,open,forward,memory", "what to measure, separated by commas")
	flag.Parse()
	o.parts = strings.Split(*parts, ",")
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d CPUs, %s, Node.js %s, %s. %d rounds. Unless they say otherwise, the tables have the median of the rounds, and the lowest and the highest in parentheses. CPU is a mean.\n",
		runtime.NumCPU(), runtime.Version(), p.nodeVersion, strings.Join(p.versions, ", "), o.rounds)
	for _, part := range []struct {
		name    string
		measure func(context.Context, options, *programs) error
	}{{"calls", measureCalls}, {"open", measureOpening}, {"forward", measureForwarding}, {"memory", measureMemory}} {
		if !slices.Contains(o.parts, part.name) {
			continue
		}
		if err := part.measure(ctx, o, p); err != nil {
			return fmt.Errorf("measuring %s: %w", part.name, err)
		}
	}
	return nil
}
