// Command server is an MCP server that the tests can break on purpose. It serves streamable HTTP at /mcp, and /healthz.
//
// Where it listens comes from the environment, as with servers made with FastMCP: MCP_HOST or FASTMCP_HOST, MCP_PORT or
// FASTMCP_PORT. Without them it listens on 127.0.0.1, where nobody outside of the pod reaches it.
//
// Every response names the pod in a header, and a tool call can break a server that runs: see tools.go.
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

// The variables that are looked at unless flags say otherwise: those of the operator's API go first.
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
	flag.StringVar(&o.host, "host", "", "the address to listen on, whatever the environment says")
	flag.StringVar(&o.hostEnv, "host-env", hostVariables, "the variables that are looked at for the address; the first that is set counts")
	flag.StringVar(&o.port, "port", "", "the port to listen on, whatever the environment says")
	flag.StringVar(&o.portEnv, "port-env", portVariables, "the variables that are looked at for the port")
	flag.BoolVar(&o.stateless, "stateless", false, "have no sessions")
	flag.BoolVar(&o.ignoreSIGTERM, "ignore-sigterm", false, "do not stop at SIGTERM, as a program that does not handle it does not as process 1")
	flag.DurationVar(&o.readyAfter, "ready-after", 0, "listen only after this time")
	flag.DurationVar(&o.exitAfter, "exit-after", 0, "exit after this time with -exit-code and -termination-message")
	flag.IntVar(&o.exitCode, "exit-code", 1, "for -exit-after")
	flag.StringVar(&o.message, "termination-message", "", "for -exit-after: written to -termination-log")
	flag.StringVar(&o.terminationLog, "termination-log", "/dev/termination-log", "where the kubelet reads why a container ended")
	flag.IntVar(&o.allocate, "allocate", 0, "use this many MiB of memory, after -ready-after")
	flag.StringVar(&o.once, "once", "", "a file, such as one in an emptyDir, by which -exit-after and -allocate take place only in the first container that finds it absent")
	flag.Float64Var(&o.burn, "burn", 0, "use this much of a CPU; the tool burn changes it")
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
	// Calls may end, for a moment: streams would never.
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
	<-stopped // Serve returns when that begins, not when it is done
	return nil
}

// address is where to listen.
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
