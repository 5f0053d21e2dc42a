package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// measureMemory measures the memory of the targets with many sessions that do nothing. Each target runs alone, because their servers need memory too.
func measureMemory(ctx context.Context, o options, p *programs) error {
	for _, table := range []struct {
		title     string
		hasStream bool
	}{
		{title: "Resident memory of sessions without a stream, their connections closed"},
		{title: "Resident memory of sessions with a stream (GET) each", hasStream: true},
	} {
		title("%s", table.title)
		cells := []string{"target"}
		for _, count := range sessions {
			cells = append(cells, fmt.Sprintf("%d sessions, MiB", count), "with the server, MiB")
		}
		header(append(cells, "failed")...)
		for _, t := range []target{own, runnerStdio, runnerHTTP, supergateway, mcpProxy, stdioOfThree, httpOfThree} {
			if err := t.measureMemory(ctx, o, p, table.hasStream); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (t target) measureMemory(ctx context.Context, o options, p *programs, hasStream bool) error {
	r, err := t.run(ctx, p)
	if err != nil {
		return err
	}
	defer r.stop()
	cells := []string{t.name}
	opened, failed := 0, 0
	for _, count := range sessions {
		for ; opened < count; opened++ {
			if !hasStream {
				err = openIdle(ctx, r.urls[opened%len(r.urls)])
			} else {
				var one *client
				if one, err = t.connectTo(ctx, r, opened); err == nil {
					defer one.close()
				}
			}
			if err != nil {
				failed++
			}
		}
		select {
		case <-time.After(o.settle):
		case <-ctx.Done():
			return fmt.Errorf("measuring: %w", context.Cause(ctx))
		}
		var each []string
		for _, pid := range r.pidsOfFronts() {
			bytes, err := resident(pid)
			if err != nil {
				return err
			}
			each = append(each, mib(bytes))
		}
		cells = append(cells, strings.Join(each, ", "), mib(proportional(r.pids()...)))
	}
	row(append(cells, fmt.Sprint(failed))...)
	return nil
}

func mib(bytes int) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }
