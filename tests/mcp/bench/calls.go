package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// sample is what one round has measured of one target.
type sample struct {
	perSecond float64
	p50, p99  float64 // milliseconds
	cpu       float64 // milliseconds of the fronts for each call
	all       float64 // milliseconds of the fronts and of what is behind them for each call
	failed    int
}

// together lets clients call at the same time.
func together(ctx context.Context, r *running, clients []*client, calls int) sample {
	fronts, pids := r.pidsOfFronts(), r.pids()
	frontsBefore, allBefore := cpu(fronts...), cpu(pids...)
	var mutex sync.Mutex
	var times []time.Duration
	var s sample
	var working sync.WaitGroup
	begin := time.Now()
	for _, one := range clients {
		working.Go(func() {
			for range calls {
				took, ok := one.call(ctx)
				mutex.Lock()
				if ok {
					times = append(times, took)
				} else {
					s.failed++
				}
				mutex.Unlock()
			}
		})
	}
	working.Wait()
	s.perSecond = float64(len(times)) / time.Since(begin).Seconds()
	s.p50, s.p99 = percentile(times, 50), percentile(times, 99)
	count := float64(len(clients) * calls)
	s.cpu, s.all = millis(cpu(fronts...)-frontsBefore)/count, millis(cpu(pids...)-allBefore)/count
	return s
}

// contestant is a target that is measured beside others.
type contestant struct {
	target
	// base is the contestant with which this one is compared: the server's own HTTP with as many replicas.
	base    *contestant
	running *running
	clients []*client
	// alone are the rounds of one client, together those of all.
	alone, together []sample
}

// measureCalls measures calls of one client alone and of several at the same time. All targets run all the time; those that are not measured have nothing to do.
func measureCalls(ctx context.Context, o options, p *programs) error {
	one, three := &contestant{target: own}, &contestant{target: ownOfThree}
	one.base, three.base = one, three
	all := []*contestant{
		one, {target: runnerStdio, base: one}, {target: runnerHTTP, base: one}, {target: supergateway, base: one}, {target: mcpProxy, base: one},
		three, {target: stdioOfThree, base: three}, {target: httpOfThree, base: three},
	}
	for _, c := range all {
		defer c.close()
		if err := c.open(ctx, o, p); err != nil {
			return err
		}
	}
	for range o.rounds {
		for _, c := range all {
			c.alone = append(c.alone, together(ctx, c.running, c.clients[:1], o.alone))
			c.together = append(c.together, together(ctx, c.running, c.clients, o.calls))
			if ctx.Err() != nil {
				return fmt.Errorf("measuring: %w", context.Cause(ctx))
			}
		}
	}
	title("%d clients at the same time, %d calls of each in a round", o.clients, o.calls)
	showCalls(all, func(c *contestant) []sample { return c.together })
	title("One client alone, %d calls in a round", o.alone)
	showCalls(all, func(c *contestant) []sample { return c.alone })
	return nil
}

// open starts a target and opens the sessions of its clients.
func (c *contestant) open(ctx context.Context, o options, p *programs) (err error) {
	if c.running, err = c.run(ctx, p); err != nil {
		return err
	}
	for number := range o.clients {
		one, err := c.connectTo(ctx, c.running, number)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.clients = append(c.clients, one)
	}
	together(ctx, c.running, c.clients, 5) // warm up
	return nil
}

func (c *contestant) close() {
	for _, one := range c.clients {
		one.close()
	}
	if c.running != nil {
		c.running.stop()
	}
}

// showCalls prints a table.
func showCalls(all []*contestant, samplesOf func(*contestant) []sample) {
	header("target", "calls per second", "× the server's own HTTP", "p50, ms", "p99, ms", "CPU of the bridge per call, ms", "CPU of bridge and server per call, ms", "failed calls")
	for _, c := range all {
		base, samples := samplesOf(c.base), samplesOf(c)
		var ratios []float64
		failed := 0
		for round := range samples {
			ratios = append(ratios, samples[round].perSecond/base[round].perSecond)
			failed += samples[round].failed
		}
		ofBridge := ""
		if c != c.base {
			ofBridge = meanOf(samples, func(s sample) float64 { return s.cpu })
		}
		row(c.name, spreadOf("%.0f", column(samples, func(s sample) float64 { return s.perSecond })), spreadOf("%.2f", ratios),
			spreadOf("%.2f", column(samples, func(s sample) float64 { return s.p50 })), spreadOf("%.2f", column(samples, func(s sample) float64 { return s.p99 })),
			ofBridge, meanOf(samples, func(s sample) float64 { return s.all }), fmt.Sprint(failed))
	}
}
