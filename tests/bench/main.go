// Command bench measures the operator on a control plane of its own, beside a raw writer that applies the same objects
// with the same concurrency and does nothing else: the floor. It prints the tables of docs/performance.md.
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

// options say how much to measure.
type options struct {
	// sizes are the numbers of MCPServers of the throughput table.
	sizes []int
	// counted is the number of MCPServers whose requests are counted, from creation to Ready.
	counted int
	// present is the number of MCPServers that are there, all of them Ready, for everything else.
	present int
	// concurrency of the operator and of the raw writer.
	concurrency int
	// idle is for how long the operator runs without MCPServers before its memory is taken for that of an idle one.
	idle time.Duration
	// steady is for how long the operator is watched that has nothing to do.
	steady time.Duration
	// edits is how many reactions are measured, changing how many other MCPServers change meanwhile.
	edits, changing int
	// profiles is the folder for the profiles.
	profiles string
}

func main() {
	o := options{}
	sizes := flag.String("sizes", "1000,5000", "numbers of MCPServers to create all children of, separated by commas")
	flag.IntVar(&o.counted, "counted", 200, "MCPServers whose requests are counted from creation to Ready")
	flag.IntVar(&o.present, "present", 5000, "MCPServers, all Ready, for the restart, the memory and the reaction")
	flag.IntVar(&o.concurrency, "concurrency", 4, "workers of the operator, and of the raw writer")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long the operator runs before it counts as idle")
	flag.DurationVar(&o.steady, "steady", 5*time.Minute, "how long to watch an operator that has nothing to do")
	flag.IntVar(&o.edits, "edits", 300, "edits whose reaction is measured")
	flag.IntVar(&o.changing, "changing", 500, "other MCPServers that change meanwhile")
	flag.StringVar(&o.profiles, "profiles", "bin/bench", "folder for the profiles")
	flag.Parse()
	logf.SetLogger(logr.Discard())
	if err := run(o, *sizes); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options, sizes string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes has %q: it has to be numbers of at least 1, separated by commas", size)
		}
		o.sizes = append(o.sizes, n)
	}
	var err error
	if o.profiles, err = filepath.Abs(o.profiles); err != nil {
		return fmt.Errorf("finding the folder of the profiles: %w", err)
	}
	if err := os.MkdirAll(o.profiles, 0o750); err != nil {
		return fmt.Errorf("making the folder of the profiles: %w", err)
	}
	fmt.Printf("%d CPUs, %s, concurrency %d\n", runtime.NumCPU(), runtime.Version(), o.concurrency)
	return errors.Join(throughput(ctx, o), converged(ctx, o))
}

// on runs a measurement on a control plane of its own, with the API and the permissions of the operator installed.
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

// title begins a table.
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
