package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// opener opens a session, and reports how long it took.
type opener struct {
	name string
	open func(ctx context.Context) (time.Duration, error)
}

// pause is the time between two sessions, in which a bridge may start the next process.
const pause = 100 * time.Millisecond

// openProcess starts the process of the server and opens a session on its standard input and output. No bridge can be faster without starting processes
// in advance.
func openProcess(p *programs) opener {
	return opener{"no bridge: starting the process", func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		one, err := mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil).Connect(ctx,
			&mcp.CommandTransport{Command: exec.Command(p.server)}, &mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			return 0, fmt.Errorf("opening a session: %w", err)
		}
		took := time.Since(begin)
		_ = one.Close() // the process is of no interest any more
		return took, nil
	}}
}

func (t target) opener(r *running) opener {
	return opener{t.name, func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		one, err := connect(ctx, r.urls[0], nil)
		if err != nil {
			return 0, err
		}
		took := time.Since(begin)
		one.close()
		return took, nil
	}}
}

// measureOpening measures the time until a client has opened a session, while nothing else happens.
func measureOpening(ctx context.Context, o options, p *programs) error {
	withoutSpare := target{name: "runner, stdio server, no process in advance", start: startRunners(1, behindStdioWithoutSpare)}
	withSpare := target{name: "runner, stdio server, one process in advance (the default)", start: runnerStdio.start}
	openers := []opener{openProcess(p)}
	for _, t := range []target{withoutSpare, withSpare, supergateway, mcpProxy, own, runnerHTTP} {
		r, err := t.run(ctx, p)
		if err != nil {
			return err
		}
		defer r.stop()
		openers = append(openers, t.opener(r))
	}
	medians, slow := make([][]float64, len(openers)), make([][]float64, len(openers))
	failed := make([]int, len(openers))
	for round := range o.rounds + 1 { // the first one is for warming up
		for i, one := range openers {
			var times []time.Duration
			for range o.opens {
				took, err := one.open(ctx)
				switch {
				case ctx.Err() != nil:
					return fmt.Errorf("measuring: %w", context.Cause(ctx))
				case err != nil:
					failed[i]++
				default:
					times = append(times, took)
				}
				time.Sleep(pause)
			}
			if round > 0 && len(times) > 0 {
				medians[i] = append(medians[i], percentile(times, 50))
				slow[i] = append(slow[i], percentile(times, 100))
			}
		}
	}
	title("Opening a session, %d in a round, one after the other", o.opens)
	header("target", "p50, ms", "slowest, ms", "failed")
	for i, one := range openers {
		row(one.name, spreadOf("%.1f", medians[i]), spreadOf("%.1f", slow[i]), fmt.Sprint(failed[i]))
	}
	return nil
}
