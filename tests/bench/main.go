// Command bench measures the operator on a new control plane. As a baseline, it measures a raw writer that only applies the same objects
// with the same concurrency. It prints the tables of docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/tests/cluster"
)

// options select what to measure.
type options struct {
	// sizes are the numbers of MCPServers of the throughput table.
	sizes []int
	// counted is the number of MCPServers whose requests are counted, from creation to Ready.
	counted int
	// present is the number of Ready MCPServers in all other measurements, which are repeated for each of presents.
	present  int
	presents []int
	// concurrency is the number of workers of the operator and of the raw writer.
	concurrency int
	// runner is true if the pods get the runner, as they do by default.
	runner bool
	// idle is the time that the operator runs without MCPServers before its idle memory is measured.
	idle time.Duration
	// steady is the time for which an operator without work is measured.
	steady time.Duration
	// edits is the number of measured reactions. changing is the number of other MCPServers that change at the same time.
	edits, changing int
	// profiles is the folder for profiles.
	profiles string
}

func main() {
	o := options{}
	sizes := flag.String("sizes", "1000,5000,10000", "the numbers of MCPServers for the throughput table, separated by commas; if empty, there is none")
	presents := flag.String("present", "5000,10000",
		"the numbers of Ready MCPServers for the measurements of restart, memory and reaction, separated by commas; if empty, there are none")
	flag.IntVar(&o.counted, "counted", 200, "the number of MCPServers whose requests are counted from creation to Ready")
	flag.BoolVar(&o.runner, "runner", true, "whether the pods get the runner, as they do by default")
	flag.IntVar(&o.concurrency, "concurrency", 4, "the number of workers of the operator and of the raw writer")
	flag.DurationVar(&o.idle, "idle", time.Minute, "the time that the operator runs before its idle memory is measured")
	flag.DurationVar(&o.steady, "steady", 5*time.Minute, "the time for which an operator without work is measured")
	flag.IntVar(&o.edits, "edits", 300, "the number of edits whose reaction is measured")
	flag.IntVar(&o.changing, "changing", 500, "the number of other MCPServers that change at the same time")
	flag.StringVar(&o.profiles, "profiles", "bin/bench", "the folder for profiles")
	flag.Parse()
	logf.SetLogger(logr.Discard())
	if err := run(o, *sizes, *presents); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options, sizes, presents string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.sizes, err = numbers("-sizes", sizes); err != nil {
		return err
	}
	if o.presents, err = numbers("-present", presents); err != nil {
		return err
	}
	for _, n := range o.presents {
		if n < max(o.counted, o.edits+o.changing) {
			return fmt.Errorf("-present is %d: it must be at least -counted, and at least -edits and -changing together", n)
		}
	}
	profiles, err := filepath.Abs(o.profiles)
	if err != nil {
		return fmt.Errorf("finding the folder of the profiles: %w", err)
	}
	fmt.Printf("%d CPUs, %s, concurrency %d, runner %t\n", runtime.NumCPU(), runtime.Version(), o.concurrency, o.runner)
	g := &growth{}
	defer g.print()
	if err := throughput(ctx, o, g); err != nil {
		return err
	}
	for _, o.present = range o.presents {
		o.profiles = filepath.Join(profiles, strconv.Itoa(o.present))
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return fmt.Errorf("making the folder of the profiles: %w", err)
		}
		if err := converged(ctx, o, g); err != nil {
			return err
		}
	}
	return nil
}

// numbers parses the value of a flag: numbers of MCPServers, separated by commas. It may be empty.
func numbers(flag, value string) (all []int, err error) {
	if value == "" {
		return nil, nil
	}
	for text := range strings.SplitSeq(value, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("invalid value %q in %s: it must contain numbers of at least 1, separated by commas", text, flag)
		}
		all = append(all, n)
	}
	return all, nil
}

// on runs a measurement on a new control plane with the CRD and the permissions of the operator.
func on(ctx context.Context, components []string, measure func(c *cluster.Cluster) error) (err error) {
	c, err := cluster.Start(ctx, components...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(err != nil)) }()
	if err := c.Install(ctx); err != nil {
		return err
	}
	return measure(c)
}

// title prints the title of a table.
func title(format string, args ...any) { fmt.Printf("\n## "+format+"\n\n", args...) }

// row prints a row of a table.
func row(cells ...any) {
	for _, cell := range cells {
		fmt.Printf("| %v ", cell)
	}
	fmt.Println("|")
}

// header prints the first row of a table.
func header(cells ...any) {
	row(cells...)
	fmt.Println(strings.Repeat("| --- ", len(cells)) + "|")
}
