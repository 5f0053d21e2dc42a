package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
)

// editRate is the number of measured edits per second. changingRate is the number of other MCPServers that change per second.
const (
	editRate     = 5
	changingRate = 20
)

func mergePatch(patch string) client.Patch {
	return client.RawPatch(types.MergePatchType, []byte(patch))
}

// reactions measures the time from an edit of an MCPServer to the write of its child. It also measures a plain program that only applies
// when it sees an edit.
func reactions(ctx context.Context, c *cluster.Cluster, op *operatorUnderTest, o options, g *growth) error {
	title("From an edit of an MCPServer to the write of its StatefulSet, %d edits at %d per second, %d MCPServers present", o.edits, editRate, o.present)
	header("meanwhile", "what", "p50", "p99", "p99 × plain apply", "p99 × plain reaction")
	if err := reaction(ctx, c, o, g, "nothing else changes", 1); err != nil {
		return err
	}
	if err := quiet(ctx, c); err != nil {
		return err
	}
	changing, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- changeOthers(changing, c, o) }()
	profiled := make(chan error, 1)
	go func() { profiled <- op.profile(ctx, "reactions", 30*time.Second) }()
	err := reaction(ctx, c, o, g, fmt.Sprintf("%d others change, %d per second", o.changing, changingRate), 2)
	stop()
	return errors.Join(err, <-stopped, <-profiled)
}

// changeOthers edits MCPServers whose reaction is not measured, at a steady rate.
func changeOthers(ctx context.Context, c *cluster.Cluster, o options) error {
	limit := rate.NewLimiter(changingRate, 1)
	for i := 0; ctx.Err() == nil; i++ {
		err := limit.Wait(ctx)
		if err == nil {
			err = edit(ctx, c, o.edits+i%o.changing, 10+i/o.changing)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil // the measurement is over
}

func reaction(ctx context.Context, c *cluster.Cluster, o options, g *growth, meanwhile string, value int) error {
	mark, err := c.AuditMark()
	if err != nil {
		return err
	}
	begun := time.Now()
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error {
		return atRate(working, o.edits, func(i int) error { return edit(working, c, i, value) })
	})
	group.Go(func() error { return plainReactions(working, c, o.edits, value) })
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(begun)
	reactions, err := waitReactions(ctx, c, mark, 0, o.edits)
	if err != nil {
		return err
	}
	plain, err := plainReactionsSince(c, mark, o.edits)
	if err != nil {
		return err
	}
	others, err := othersSince(c, mark, o.edits)
	if err != nil {
		return err
	}
	plainApply := percentile(durations(plain, reacted.second), 99).Seconds()
	plainReaction := percentile(durations(plain, reacted.took), 99).Seconds()
	show := func(what string, times []time.Duration) {
		p99 := percentile(times, 99)
		row(meanwhile, what, millis(percentile(times, 50)), millis(p99),
			fmt.Sprintf("%.1f", p99.Seconds()/plainApply), fmt.Sprintf("%.1f", p99.Seconds()/plainReaction))
	}
	show("plain apply", durations(plain, reacted.second))
	show("plain reaction", durations(plain, reacted.took))
	show("plain reaction: until the apply", durations(plain, reacted.between))
	show("operator", durations(reactions, reacted.took))
	show("operator: the API server in both requests", durations(reactions, reacted.requests))
	show("operator: the edit", durations(reactions, reacted.first))
	show("operator: from the answer to the edit until the write", durations(reactions, reacted.between))
	show("operator: the write", durations(reactions, reacted.second))
	g.add("from an edit to the write of the StatefulSet, p50, "+meanwhile, o.present, millis(percentile(durations(reactions, reacted.took), 50)))
	row(meanwhile, fmt.Sprintf("%d edits in %s, and %d of others", o.edits, seconds(took), others), "", "", "", "")
	return nil
}

// atRate calls do for each number below n, editRate times per second, or as fast as possible if that is slower.
func atRate(ctx context.Context, n int, do func(i int) error) error {
	limit := rate.NewLimiter(editRate, 1)
	for i := range n {
		if err := limit.Wait(ctx); err != nil {
			return fmt.Errorf("waiting for the next turn: %w", err)
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// reacted is an edit and the write of the StatefulSet that answers it.
type reacted struct{ edit, write cluster.Request }

// took is the time from the arrival of the edit to the response to the write. It has three parts: first, between and second.
func (r reacted) took() time.Duration { return r.write.Done.Sub(r.edit.Time) }

func (r reacted) first() time.Duration { return r.edit.Done.Sub(r.edit.Time) }

// between is negative if the watch event arrived before the response to the edit.
func (r reacted) between() time.Duration { return r.write.Time.Sub(r.edit.Done) }

func (r reacted) second() time.Duration { return r.write.Done.Sub(r.write.Time) }

// requests is the time that the API server needs for both requests.
func (r reacted) requests() time.Duration { return r.first() + r.second() }

func durations(reactions []reacted, of func(reacted) time.Duration) (all []time.Duration) {
	for _, r := range reactions {
		all = append(all, of(r))
	}
	return all
}

// waitReactions waits until the operator has written the StatefulSets of the MCPServers with numbers from first up to, but not including, last,
// each of which was edited since a mark.
func waitReactions(ctx context.Context, c *cluster.Cluster, mark int64, first, last int) ([]reacted, error) {
	var reactions []reacted
	err := wait.PollUntilContextTimeout(ctx, time.Second, most, true, func(context.Context) (bool, error) {
		var err error
		reactions, err = reactionsSince(c, mark, first, last)
		return len(reactions) == last-first, err
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the reactions, %d of %d: %w", len(reactions), last-first, err)
	}
	return reactions, nil
}

// reactionsSince returns, for each edited MCPServer with a number from first up to, but not including, last, the edit and the operator's first
// write of the StatefulSet after the edit arrived at the API server.
func reactionsSince(c *cluster.Cluster, mark int64, first, last int) ([]reacted, error) {
	ours, err := c.RequestsSince(mark, adminUser)
	if err != nil {
		return nil, err
	}
	theirs, err := c.RequestsSince(mark, cluster.OperatorUser)
	if err != nil {
		return nil, err
	}
	edited := map[string]cluster.Request{}
	for _, request := range ours {
		if request.Verb == "patch" && request.Resource == "mcpservers" && isMeasured(request.Name, first, last) {
			edited[request.Name] = request
		}
	}
	var reactions []reacted
	for _, request := range theirs {
		edit, wasEdited := edited[request.Name]
		if wasEdited && request.Resource == "statefulsets" && request.Verb == "patch" && request.Code == 200 && request.Done.After(edit.Time) {
			reactions = append(reactions, reacted{edit: edit, write: request})
			delete(edited, request.Name)
		}
	}
	return reactions, nil
}

// isMeasured reports whether the MCPServer with the given name has a number from first up to, but not including, last.
func isMeasured(name string, first, last int) bool {
	var i int
	_, err := fmt.Sscanf(name, "server-%d", &i)
	return err == nil && first <= i && i < last
}

// othersSince returns the number of edits of MCPServers that are not measured.
func othersSince(c *cluster.Cluster, mark int64, edits int) (int, error) {
	requests, err := c.RequestsSince(mark, adminUser)
	if err != nil {
		return 0, err
	}
	others := 0
	for _, request := range requests {
		if request.Verb == "patch" && request.Resource == "mcpservers" && !isMeasured(request.Name, 0, edits) {
			others++
		}
	}
	return others, nil
}

// percentile returns the p-th percentile by the nearest-rank method.
func percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
