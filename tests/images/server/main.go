// Command server is an MCP server that can misbehave on request. It serves streamable HTTP at /mcp, and /healthz.
//
// It reads its address from the environment, like servers based on FastMCP: MCP_HOST or FASTMCP_HOST, and MCP_PORT or FASTMCP_PORT. If
// unset, it listens on 127.0.0.1, which is not reachable from outside the pod.
//
// Every response has the name of the pod in a header. Tools can make a running server misbehave: see tools.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"mcpserver-operator/tests/images/calls"
)

// The environment variables for the address, unless flags select others. The variables of the operator's API come first.
const (
	hostVariables = "MCP_HOST,FASTMCP_HOST"
	portVariables = "MCP_PORT,FASTMCP_PORT"
)

type options struct {
	host, hostEnv  string
	port, portEnv  string
	stateless      bool
	ignoreSIGTERM  bool
	readyAfter     time.Duration
	exitAfter      time.Duration
	exitCode       int
	message        string
	terminationLog string
	allocate       int
	once           string
	burn           float64
	data           string
}

func main() {
	var o options
	flag.StringVar(&o.host, "host", "", "the address to listen on; overrides the environment")
	flag.StringVar(&o.hostEnv, "host-env", hostVariables, "the environment variables for the address; the first one that is set applies")
	flag.StringVar(&o.port, "port", "", "the port to listen on; overrides the environment")
	flag.StringVar(&o.portEnv, "port-env", portVariables, "the environment variables for the port; the first one that is set applies")
	flag.BoolVar(&o.stateless, "stateless", false, "disable sessions")
	flag.BoolVar(&o.ignoreSIGTERM, "ignore-sigterm", false, "ignore SIGTERM, like a program without a signal handler that runs as process 1")
	flag.DurationVar(&o.readyAfter, "ready-after", 0, "delay listening by this time")
	flag.DurationVar(&o.exitAfter, "exit-after", 0, "exit after this time with -exit-code and -termination-message")
	flag.IntVar(&o.exitCode, "exit-code", 1, "the exit code for -exit-after")
	flag.StringVar(&o.message, "termination-message", "", "the message that -exit-after writes to -termination-log")
	flag.StringVar(&o.terminationLog, "termination-log", "/dev/termination-log", "the file from which the kubelet reads the termination message")
	flag.IntVar(&o.allocate, "allocate", 0, "use this many MiB of memory, after -ready-after")
	flag.StringVar(&o.once, "once", "", "a marker file, for example in an emptyDir; if it exists, -exit-after and -allocate do nothing, otherwise the server creates it")
	flag.Float64Var(&o.burn, "burn", 0, "the share of a CPU to use; the tool burn changes it")
	flag.StringVar(&o.data, "data", "", "a folder for the tools put and get")
	flag.Parse()
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if o.ignoreSIGTERM {
		signal.Ignore(syscall.SIGTERM)
	} else {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
		defer stop()
	}
	misbehave, err := first(o.once)
	if err != nil {
		return err
	}
	burner := &burner{}
	burner.set(o.burn)
	go burner.run(ctx)
	if misbehave && o.exitAfter > 0 {
		time.AfterFunc(o.exitAfter, func() { exit(o.terminationLog, o.message, o.exitCode) })
	}
	select {
	case <-time.After(o.readyAfter):
	case <-ctx.Done():
		return nil
	}
	if misbehave && o.allocate > 0 {
		go allocate(o.allocate)
	}
	tools, err := newTools(o, burner)
	if err != nil {
		return err
	}
	return serve(ctx, o, tools)
}

func serve(ctx context.Context, o options, server *mcp.Server) error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the name of the pod: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: o.stateless},
	))
	for _, path := range []string{"/healthz", "/health"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.address(os.Getenv))
	if err != nil {
		return err
	}
	log.Printf("listening at %s", listener.Addr())
	httpServer := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(calls.InstanceHeader, hostname)
			mux.ServeHTTP(w, r)
		}),
	}
	// Give calls a moment to end. Streams would never end by themselves.
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		ending, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if httpServer.Shutdown(ending) != nil {
			_ = httpServer.Close()
		}
	})
	if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped // Serve returns when the shutdown begins, not when it is complete
	return nil
}

// address returns the address to listen on.
func (o options) address(getenv func(string) string) string {
	firstSet := func(value, variables, otherwise string) string {
		if value != "" {
			return value
		}
		for _, variable := range strings.Split(variables, ",") {
			if value := getenv(variable); value != "" {
				return value
			}
		}
		return otherwise
	}
	return net.JoinHostPort(firstSet(o.host, o.hostEnv, "127.0.0.1"), firstSet(o.port, o.portEnv, "8080"))
}
