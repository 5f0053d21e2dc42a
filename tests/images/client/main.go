// Command client calls a tool of an MCP server again and again, from a pod. It prints a line of JSON for each call and a summary
// at the end, as package calls defines them. It fails if a call failed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"mcpserver-operator/tests/images/calls"
)

func main() {
	var options calls.Options
	flag.StringVar(&options.URL, "url", "", "where the server is, with the path")
	flag.StringVar(&options.Tool, "tool", "", "the tool to call; if empty, the tools are listed instead")
	arguments := flag.String("args", "{}", "the arguments of the tool, as JSON")
	flag.IntVar(&options.Count, "count", 1, "how many calls; 0 for as many as -for has time for")
	flag.DurationVar(&options.Every, "every", 0, "the time from the start of a call to that of the next")
	flag.DurationVar(&options.For, "for", 0, "when to stop; 0 for never")
	flag.DurationVar(&options.Timeout, "timeout", 30*time.Second, "for each call")
	flag.BoolVar(&options.Fresh, "fresh", false, "open a session and a connection for each call")
	flag.Parse()
	if err := json.Unmarshal([]byte(*arguments), &options.Arguments); err != nil {
		fail(fmt.Errorf("read -args: %w", err))
	}
	// The kubelet ends a pod with SIGTERM: the summary is printed then as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	summary, err := calls.Run(ctx, options, os.Stdout)
	if err != nil {
		fail(err)
	}
	if summary.Failed > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(2)
}
