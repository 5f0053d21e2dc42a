// Command client calls a tool of an MCP server repeatedly, from a pod. It prints a line of JSON for each call and a summary at the end,
// in the format of package calls. It exits with an error if a call failed.
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
	flag.StringVar(&options.URL, "url", "", "the URL of the server, with its path")
	flag.StringVar(&options.Tool, "tool", "", "the tool to call; if empty, the tools are listed instead")
	arguments := flag.String("args", "{}", "the arguments of the tool, as JSON")
	flag.IntVar(&options.Count, "count", 1, "the number of calls; 0 for no limit other than -for")
	flag.DurationVar(&options.Every, "every", 0, "the time between the starts of two calls")
	flag.DurationVar(&options.For, "for", 0, "the time after which calls stop; 0 for no limit")
	flag.DurationVar(&options.Timeout, "timeout", 30*time.Second, "the timeout of each call")
	flag.BoolVar(&options.Fresh, "fresh", false, "open a session and a connection for each call")
	flag.BoolVar(&options.Keep, "keep", false, "keep the session after a failed call")
	flag.BoolVar(&options.Unpooled, "unpooled", false, "open a connection for each request")
	flag.IntVar(&options.Sessions, "sessions", 1, "the number of sessions that call at the same time")
	flag.StringVar(&options.Protocol, "protocol", "", "the protocol version to ask for; defaults to the newest")
	flag.StringVar(&options.OpeningTool, "opening-tool", "", "the tool to call once in each new session")
	openingArguments := flag.String("opening-args", "{}", "the arguments of the opening tool, as JSON; here and in -args, $SESSION is the number of the session")
	flag.Parse()
	if err := json.Unmarshal([]byte(*openingArguments), &options.OpeningArguments); err != nil {
		fail(fmt.Errorf("read -opening-args: %w", err))
	}
	if err := json.Unmarshal([]byte(*arguments), &options.Arguments); err != nil {
		fail(fmt.Errorf("read -args: %w", err))
	}
	// The kubelet ends a pod with SIGTERM. The client then prints its summary too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	summary, err := calls.Run(ctx, options, os.Stdout)
	stop()
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
