package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// converged measures an operator whose MCPServers are Ready. Controllers and a played node run the pods.
func converged(ctx context.Context, o options, g *growth) error {
	return on(ctx, []string{controlplane.KubeControllerManager, controlplane.KubeScheduler}, func(c *cluster.Cluster) (err error) {
		op, err := startOperator(ctx, c, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, op.Stop()) }()
		if err := hold(ctx, o.idle); err != nil {
			return err
		}
		idle, err := op.usage(ctx)
		if err != nil {
			return err
		}
		if err := op.heap(ctx, "idle"); err != nil {
			return err
		}
		collected, err := op.usage(ctx)
		if err != nil {
			return err
		}
		idle.Heap = collected.Heap
		if err := countRequests(ctx, c, o.counted); err != nil {
			return err
		}
		profiled := make(chan error, 1)
		go func() { profiled <- op.profile(ctx, "create", 30*time.Second) }()
		if err := errors.Join(createServers(ctx, c, o.counted, o.present), <-profiled); err != nil {
			return err
		}
		if err := waitReady(ctx, c, o.present); err != nil {
			return err
		}
		if err := quiet(ctx, c); err != nil {
			return err
		}
		grown, err := op.usage(ctx)
		if err != nil {
			return err
		}
		for _, measure := range []func() error{
			func() error { return restart(ctx, c, op, o, g) },
			func() error { return steady(ctx, c, op, o) },
			func() error { return memory(ctx, op, o, g, idle, grown) },
			func() error { return passOverAll(ctx, c, op, o, g) },
			func() error { return reactions(ctx, c, op, o, g) },
			func() error { return op.showProfiles(ctx) },
		} {
			if err := measure(); err != nil {
				return err
			}
		}
		return nil
	})
}

// countRequests counts the requests of the operator from the creation of n MCPServers until all are Ready and the operator is quiet.
func countRequests(ctx context.Context, c *cluster.Cluster, n int) error {
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	if err := createServers(ctx, c, 0, n); err != nil {
		return err
	}
	if err := waitReady(ctx, c, n); err != nil {
		return err
	}
	requests, err := quietSince(ctx, c, mark)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	var writes int
	for _, request := range requests {
		if !strings.HasPrefix(request.Namespace, "bench-") && request.Verb != "list" && request.Verb != "watch" {
			continue // skip leases, and the reviews that authorize scrapes of the metrics
		}
		what := request.Verb + " " + request.Resource
		if request.Subresource != "" {
			what += "/" + request.Subresource
		}
		if request.Code >= 300 {
			what += fmt.Sprintf(" (%d)", request.Code)
		}
		counts[what]++
		if request.IsWrite() && request.Resource != "events" {
			writes++
		}
	}
	title("Requests of the operator from creation to Ready, %d MCPServers at once", n)
	header("request", "per MCPServer")
	var kinds []string
	for what := range counts {
		kinds = append(kinds, what)
	}
	slices.Sort(kinds)
	for _, what := range kinds {
		row(what, fmt.Sprintf("%.2f", float64(counts[what])/float64(n)))
	}
	row("all writes", fmt.Sprintf("%.2f", float64(writes)/float64(n)))
	return nil
}

// quietFor is the time without writes after which the operator counts as quiet. It is longer than the delay of any status report.
const quietFor = 15 * time.Second

// quietSince waits until the operator is quiet, and returns its requests since a mark.
func quietSince(ctx context.Context, c *cluster.Cluster, mark int64) ([]cluster.Request, error) {
	var requests []cluster.Request
	since, writes := time.Now(), -1
	err := wait.PollUntilContextTimeout(ctx, time.Second, most, true, func(context.Context) (bool, error) {
		var err error
		if requests, err = c.RequestsSince(mark, cluster.OperatorUser); err != nil {
			return false, err
		}
		if now := countWrites(requests); now != writes {
			since, writes = time.Now(), now
		}
		return time.Since(since) > quietFor, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the operator to be quiet: %w", err)
	}
	return requests, nil
}

// quiet waits until the operator is quiet.
func quiet(ctx context.Context, c *cluster.Cluster) error {
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	_, err = quietSince(ctx, c, mark)
	return err
}

func countWrites(requests []cluster.Request) int {
	var writes int
	for _, request := range requests {
		if request.IsWrite() {
			writes++
		}
	}
	return writes
}

// restart measures a restart with converged MCPServers, and the time that another client needs to list the same objects.
func restart(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, o options, g *growth) error {
	var listing time.Duration
	for _, list := range []client.ObjectList{
		&v1beta1.MCPServerList{}, &appsv1.StatefulSetList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{},
		&networkingv1.NetworkPolicyList{}, &policyv1.PodDisruptionBudgetList{}, &corev1.PodList{},
		&autoscalingv2.HorizontalPodAutoscalerList{},
	} {
		start := time.Now()
		if err := c.Client.List(ctx, list); err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		listing += time.Since(start)
	}
	if err := op.Stop(); err != nil {
		return err
	}
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := op.Start(ctx); err != nil {
		return err
	}
	if _, err := waitPasses(ctx, op, 1); err != nil {
		return err
	}
	synced := time.Since(start)
	used, err := waitPasses(ctx, op, o.present)
	if err != nil {
		return err
	}
	passed := time.Since(start)
	if _, err := quietSince(ctx, c, mark); err != nil {
		return err
	}
	// The API server logs a watch when the watch ends.
	if err := op.Stop(); err != nil {
		return err
	}
	requests, err := c.RequestsSince(mark, cluster.OperatorUser)
	if err != nil {
		return err
	}
	lists := map[string]int{}
	for _, request := range requests {
		if request.Verb == "list" || request.Verb == "watch" {
			lists[request.Verb+" "+request.Resource]++
		}
	}
	title("Restart with %d MCPServers that are Ready", o.present)
	header("what", "measured")
	row("writes", countWrites(requests))
	row("lists and watches (a watch starts with its list)", fmt.Sprint(lists))
	row("another client lists the same objects, one kind after the other", seconds(listing))
	row("from the start of the process until the first pass, which requires all lists", seconds(synced))
	row("from the start of the process until a pass for each MCPServer has ended, with an error of up to 0.2 ms for each", seconds(passed))
	row("CPU until then", seconds(used.CPU))
	g.add("another client lists all objects, per MCPServer", o.present, each(listing, o.present))
	g.add("from a restart until the first pass, × that list", o.present, times(synced, listing))
	g.add("CPU from a restart until a pass for each has ended, per MCPServer", o.present, each(used.CPU, o.present))
	return restartAndEdit(ctx, c, op, o, g, listing)
}

// restartAndEdit restarts the operator and measures when it answers three edits: one from before the start, one right after the start of the
// process, and one during the initial passes. It edits the last three MCPServers, so that the order of the lists cannot help.
func restartAndEdit(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, o options, g *growth, listing time.Duration) error {
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	missed, early, late := o.present-3, o.present-2, o.present-1
	if err := edit(ctx, c, missed, 5); err != nil {
		return err
	}
	start := time.Now()
	if err := op.Start(ctx); err != nil {
		return err
	}
	if err := edit(ctx, c, early, 5); err != nil {
		return err
	}
	if _, err := waitPasses(ctx, op, 1); err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- op.profile(ctx, "restart", 5*time.Second) }()
	if err := edit(ctx, c, late, 5); err != nil {
		return err
	}
	reactions, err := waitReactions(ctx, c, mark, missed, o.present)
	if err != nil {
		return err
	}
	used, err := op.usage(ctx)
	if err != nil {
		return err
	}
	answers := map[string]reacted{}
	for _, reaction := range reactions {
		answers[reaction.edit.Name] = reaction
	}
	for _, one := range []struct {
		what   string
		edited int
	}{
		{"an edit from before the start is carried out", missed},
		{"an edit from right after the start is carried out", early},
	} {
		took := answers[server(one.edited).Name].write.Done.Sub(start)
		row("from the start of the process until "+one.what, fmt.Sprintf("%s, %s × that list", seconds(took), times(took, listing)))
		g.add("from a restart until "+one.what+", × that list", o.present, times(took, listing))
	}
	row("from an edit right after the first pass until the operator has written the StatefulSet", millis(answers[server(late).Name].took()))
	row("passes until then, at most", used.Passes)
	if _, err := waitPasses(ctx, op, o.present); err != nil {
		return err
	}
	return errors.Join(quiet(ctx, c), <-profiled)
}

// waitPasses waits until the operator has finished the given number of passes since it started.
func waitPasses(ctx context.Context, op *operatorUnderTest, passes int) (usage, error) {
	var used usage
	var last error
	// Each poll is a scrape, which costs the operator CPU time for each MCPServer: about 20 µs. The interval is longer for more passes, so that the
	// scrapes take at most a tenth of a core. It is the error of the measured time: 0.2 s for the first pass, 1 s for 5,000, and 2 s for 10,000.
	interval := max(200*time.Millisecond, time.Duration(passes)*200*time.Microsecond)
	err := wait.PollUntilContextTimeout(ctx, interval, most, true, func(ctx context.Context) (bool, error) {
		used, last = op.usage(ctx)
		return last == nil && used.Passes >= passes, nil
	})
	if err != nil {
		return used, fmt.Errorf("waiting for %d passes, the operator has finished %d: %w", passes, used.Passes, errors.Join(err, last))
	}
	return used, nil
}

// spent returns the CPU time, the passes and the writes of the operator while a function runs.
func spent(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, during func() error) (used usage, writes int, err error) {
	mark, err := c.AuditMark()
	if err != nil {
		return used, 0, err
	}
	before, err := op.usage(ctx)
	if err != nil {
		return used, 0, err
	}
	if err := during(); err != nil {
		return used, 0, err
	}
	after, err := op.usage(ctx)
	if err != nil {
		return used, 0, err
	}
	requests, err := c.RequestsSince(mark, cluster.OperatorUser)
	if err != nil {
		return used, 0, err
	}
	return usage{CPU: after.CPU - before.CPU, Passes: after.Passes - before.Passes}, countWrites(requests), nil
}

// steady measures an operator that has nothing to do.
func steady(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, o options) error {
	used, writes, err := spent(ctx, c, op, func() error { return hold(ctx, o.steady) })
	if err != nil {
		return err
	}
	title("%s with %d MCPServers and nothing to do", o.steady, o.present)
	header("what", "measured")
	row("writes", writes)
	row("passes", used.Passes)
	row("CPU", fmt.Sprintf("%s, %.2f %% of a core", seconds(used.CPU), 100*used.CPU.Seconds()/o.steady.Seconds()))
	return nil
}

// hold waits for the given time.
func hold(ctx context.Context, duration time.Duration) error {
	select {
	case <-time.After(duration):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// memory compares the memory of the operator now with its memory before there were MCPServers.
func memory(ctx context.Context, op *operatorUnderTest, o options, g *growth, idle, grown usage) error {
	now, err := op.usage(ctx)
	if err != nil {
		return err
	}
	if err := op.heap(ctx, "present"); err != nil {
		return err
	}
	live, err := op.usage(ctx)
	if err != nil {
		return err
	}
	title("Memory")
	header("operator", "resident", "per MCPServer above idle")
	mib := func(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }
	kib := func(bytes float64) string { return fmt.Sprintf("%.1f KiB", bytes/1024/float64(o.present)) }
	row("idle", mib(idle.Resident), "")
	row(fmt.Sprintf("after creating the children of %d", o.present), mib(grown.Resident), kib(grown.Resident-idle.Resident))
	row(fmt.Sprintf("%s after a restart with %d", o.steady, o.present), mib(now.Resident), kib(now.Resident-idle.Resident))
	fmt.Printf("\nLive heap after a collection: %s with %d, %s when idle.\n", mib(live.Heap), o.present, mib(idle.Heap))
	g.add("live heap above idle, per MCPServer", o.present, kib(live.Heap-idle.Heap))
	g.add("resident memory above idle after creating all children, per MCPServer", o.present, kib(grown.Resident-idle.Resident))
	g.add(fmt.Sprintf("resident memory above idle %s after a restart, per MCPServer", o.steady), o.present, kib(now.Resident-idle.Resident))
	return nil
}

// passOverAll measures a pass over each MCPServer that writes nothing. It triggers the passes with a change of an annotation.
func passOverAll(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, o options, g *growth) error {
	profiled := make(chan error, 1)
	used, writes, err := spent(ctx, c, op, func() error {
		before, err := op.usage(ctx)
		if err != nil {
			return err
		}
		go func() { profiled <- op.profile(ctx, "passes", 10*time.Second) }()
		err = parallel(ctx, 8, o.present, func(ctx context.Context, i int) error {
			return c.Client.Patch(ctx, server(i), mergePatch(`{"metadata":{"annotations":{"pass":"forced"}}}`))
		})
		if err != nil {
			return fmt.Errorf("forcing passes: %w", err)
		}
		_, err = waitPasses(ctx, op, before.Passes+o.present)
		return err
	})
	if err != nil {
		return err
	}
	title("A pass for each of %d MCPServers, nothing to write", o.present)
	header("what", "measured")
	row("writes", writes)
	row("CPU", fmt.Sprintf("%s, %s for each", seconds(used.CPU), each(used.CPU, used.Passes)))
	g.add("CPU of a pass that writes nothing", o.present, each(used.CPU, used.Passes))
	return <-profiled
}
