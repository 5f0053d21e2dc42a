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

// measureCalls measures calls of one client alone and of several at the same time. All targets run all the time; those that are not measured have nothing to do.
func measureCalls(ctx context.Context, o options, p *programs) error {
	targets := []target{own, runnerStdio, runnerHTTP, supergateway, mcpProxy, ownOfThree, stdioOfThree, httpOfThree}
	// What a target is compared with has as many replicas.
	bases := []int{0, 0, 0, 0, 0, 5, 5, 5}
	type state struct {
		running        *running
		clients        []*client
		alone, crowded []sample
	}
	states := make([]state, len(targets))
	defer func() {
		for _, s := range states {
			for _, one := range s.clients {
				one.close()
			}
			if s.running != nil {
				s.running.stop()
			}
		}
	}()
	for i, t := range targets {
		var err error
		if states[i].running, err = t.run(ctx, p); err != nil {
			return err
		}
		for number := range o.clients {
			one, err := t.connectTo(ctx, states[i].running, number)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			states[i].clients = append(states[i].clients, one)
		}
		together(ctx, states[i].running, states[i].clients, 5) // warm up
	}
	for range o.rounds {
		for i := range states {
			s := &states[i]
			s.alone = append(s.alone, together(ctx, s.running, s.clients[:1], o.alone))
			s.crowded = append(s.crowded, together(ctx, s.running, s.clients, o.calls))
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("measuring: %w", context.Cause(ctx))
			}
		}
	}
	for _, table := range []struct {
		title   string
		samples func(state) []sample
	}{
		{fmt.Sprintf("%d clients at the same time, %d calls of each in a round", o.clients, o.calls), func(s state) []sample { return s.crowded }},
		{fmt.Sprintf("One client alone, %d calls in a round", o.alone), func(s state) []sample { return s.alone }},
	} {
		title("%s", table.title)
		header("target", "calls per second", "× the server's own HTTP", "p50, ms", "p99, ms", "CPU of the bridge per call, ms", "CPU of bridge and server per call, ms", "failed calls")
		for i, t := range targets {
			base, samples := table.samples(states[bases[i]]), table.samples(states[i])
			var ratios []float64
			failed := 0
			for round := range samples {
				ratios = append(ratios, samples[round].perSecond/base[round].perSecond)
				failed += samples[round].failed
			}
			ofBridge := ""
			if i != bases[i] {
				ofBridge = meanOf(samples, func(s sample) float64 { return s.cpu })
			}
			row(t.name, spreadOf("%.0f", column(samples, func(s sample) float64 { return s.perSecond })), spreadOf("%.2f", ratios),
				spreadOf("%.2f", column(samples, func(s sample) float64 { return s.p50 })), spreadOf("%.2f", column(samples, func(s sample) float64 { return s.p99 })),
				ofBridge, meanOf(samples, func(s sample) float64 { return s.all }), fmt.Sprint(failed))
		}
	}
	return nil
}
