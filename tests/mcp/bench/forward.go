package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// owner returns which of the runners has the only session.
func owner(ctx context.Context, r *running) (int, error) {
	for i, management := range r.management {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, management+"/metrics", http.NoBody)
		if err != nil {
			return 0, fmt.Errorf("asking a runner: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, fmt.Errorf("asking a runner: %w", err)
		}
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if value, found := strings.CutPrefix(lines.Text(), "mcp_runner_sessions "); found {
				if n, err := strconv.ParseFloat(value, 64); err == nil && n > 0 {
					return i, nil
				}
			}
		}
	}
	return 0, errors.New("no runner has the session")
}

// measureForwarding compares calls that reach the pod of their session with calls that reach another pod, which forwards them. A client alternates between
// the two pods, so both have the same conditions.
func measureForwarding(ctx context.Context, o options, p *programs) error {
	title("A call to the pod of its session, and a call that another pod forwards. One client alone, %d calls of each kind in a round", o.alone)
	header("target", "direct: p50, ms", "p99, ms", "forwarded: p50, ms", "p99, ms", "difference of p50, ms", "CPU of all runners per direct call, ms", "per forwarded call, ms", "failed calls")
	for _, t := range []target{stdioOfThree, httpOfThree} {
		if err := t.measureForwarding(ctx, o, p); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func (t target) measureForwarding(ctx context.Context, o options, p *programs) error {
	r, err := t.run(ctx, p)
	if err != nil {
		return err
	}
	defer r.stop()
	route := &spread{}
	if err := route.use(r.urls[0]); err != nil {
		return err
	}
	one, err := connect(ctx, r.urls[0], route)
	if err != nil {
		return err
	}
	defer one.close()
	at, err := owner(ctx, r)
	if err != nil {
		return err
	}
	var samples [2][]sample
	for range o.rounds {
		for kind, pod := range []int{at, (at + 1) % len(r.urls)} {
			if err := route.use(r.urls[pod]); err != nil {
				return err
			}
			samples[kind] = append(samples[kind], together(ctx, r, []*client{one}, o.alone))
		}
	}
	var slower []float64
	failed := 0
	for i, direct := range samples[0] {
		forwarded := samples[1][i]
		slower = append(slower, forwarded.p50-direct.p50)
		failed += direct.failed + forwarded.failed
	}
	p50, p99, used := func(s sample) float64 { return s.p50 }, func(s sample) float64 { return s.p99 }, func(s sample) float64 { return s.cpu }
	row(t.name, spreadOf("%.2f", column(samples[0], p50)), spreadOf("%.2f", column(samples[0], p99)),
		spreadOf("%.2f", column(samples[1], p50)), spreadOf("%.2f", column(samples[1], p99)),
		spreadOf("%.2f", slower), meanOf(samples[0], used), meanOf(samples[1], used), fmt.Sprint(failed))
	return nil
}
