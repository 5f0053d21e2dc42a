package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"mcpserver-operator/runner/limits"
	"mcpserver-operator/runner/peers"
)

// config is the configuration of the runner. Its flags are documented in flags.
type config struct {
	command         []string
	upstream        string
	listen          string
	management      string
	pod             string
	service         string
	peers           peers.Static
	ordinal         uint16
	onPodLoss       string
	idleTimeout     time.Duration
	maxSessions     int
	spare           int
	sharedProcesses int
	sse             bool
	audit           bool
	auditArguments  bool
	auditResults    bool
	drainTimeout    time.Duration
	drainDelay      time.Duration
	startTimeout    time.Duration
	grace           time.Duration
	maxLine         int
	limits          limits.Limits
}

// The values of --on-pod-loss.
const (
	recreate = "Recreate"
	end      = "End"
)

// parse reads the flags. What follows "--" is the command of the server.
func parse(args []string, environment func(string) string, hostname func() (string, error)) (config, error) {
	var c config
	flags := flag.NewFlagSet(executable, flag.ContinueOnError)
	flags.StringVar(&c.upstream, "upstream", "", "URL of an HTTP server behind the runner, for example http://127.0.0.1:3000/mcp; a stdio server has its command after -- instead")
	flags.StringVar(&c.listen, "listen", ":8080", "address for clients")
	flags.StringVar(&c.management, "management", ":9464", "address for /metrics, /healthz, /readyz and the runners of the other pods")
	flags.StringVar(&c.pod, "pod", environment("POD_NAME"), "name of this pod, NAME-ORDINAL; defaults to POD_NAME, else to the hostname")
	flags.StringVar(&c.service, "service", "", "name of the headless Service of the pods; if empty, this pod is alone")
	pods := flags.String("peers", "", "addresses of all pods in the order of their ordinals, ADDRESS/MANAGEMENT, separated by commas, instead of --service; for tests")
	flags.StringVar(&c.onPodLoss, "on-pod-loss", recreate, "what happens to a session whose pod or process is lost: Recreate or End")
	flags.DurationVar(&c.idleTimeout, "idle-timeout", 15*time.Minute, "time without a request after which a session ends; 0 is never")
	flags.IntVar(&c.maxSessions, "max-sessions", 1000, "sessions of this pod at most")
	flags.IntVar(&c.spare, "spare-processes", 1, "processes of a stdio server that are started in advance")
	flags.IntVar(&c.sharedProcesses, "shared-processes", 1, "processes of a stdio server for the requests without sessions (2026-07-28)")
	flags.BoolVar(&c.sse, "sse", false, "serve also HTTP+SSE (2024-11-05), at /sse")
	flags.BoolVar(&c.audit, "audit", false, "write one line for each request, without its arguments and results")
	flags.BoolVar(&c.auditArguments, "audit-arguments", false, "add the arguments to the lines of --audit, up to 1024 bytes; they may be secret")
	flags.BoolVar(&c.auditResults, "audit-results", false, "add the results to the lines of --audit, up to 1024 bytes; they may be secret")
	flags.DurationVar(&c.drainTimeout, "drain-timeout", 25*time.Second, "time after SIGTERM for requests in progress; must be shorter than the grace period of the pod")
	flags.DurationVar(&c.drainDelay, "drain-delay", 3*time.Second, "time after SIGTERM during which requests may still arrive; part of --drain-timeout")
	flags.DurationVar(&c.startTimeout, "start-timeout", 2*time.Minute, "time for the server to answer the request initialize")
	flags.DurationVar(&c.grace, "process-grace", 2*time.Second, "time for a process to end after its input was closed, and again after SIGTERM")
	flags.IntVar(&c.maxLine, "max-line-bytes", 16<<20, "length of a message of a stdio server at most")
	flags.Int64Var(&c.limits.Body, "max-body-bytes", 4<<20, "length of a request of a client at most")
	flags.DurationVar(&c.limits.Read, "read-timeout", 30*time.Second, "time for a client to send a request")
	flags.DurationVar(&c.limits.Write, "write-timeout", 30*time.Second, "time for a client to receive a piece of a response")
	flags.DurationVar(&c.limits.KeepAlive, "keep-alive", 15*time.Second, "time between comments on a stream without messages")
	origins := flags.String("allowed-origins", "", "origins of web pages that may call, separated by commas; * allows all")
	if err := flags.Parse(args); err != nil {
		return config{}, fmt.Errorf("reading the flags: %w", err)
	}
	c.command = flags.Args()
	for origin := range strings.SplitSeq(*origins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			c.limits.Origins = append(c.limits.Origins, origin)
		}
	}
	if c.pod == "" {
		name, err := hostname()
		if err != nil {
			return config{}, fmt.Errorf("finding the name of the pod: %w", err)
		}
		c.pod = name
	}
	_, ordinal, isOrdinal := peers.CutOrdinal(c.pod)
	c.ordinal = ordinal
	if *pods != "" {
		var err error
		if c.peers, err = peers.ParseStatic(*pods); err != nil {
			return config{}, fmt.Errorf("reading --peers: %w", err)
		}
	}
	switch {
	case (len(c.command) == 0) == (c.upstream == ""):
		return config{}, errors.New("either --upstream or a command after -- is required")
	case c.onPodLoss != recreate && c.onPodLoss != end:
		return config{}, fmt.Errorf("--on-pod-loss must be Recreate or End, not %q", c.onPodLoss)
	case !c.audit && (c.auditArguments || c.auditResults):
		return config{}, errors.New("--audit-arguments and --audit-results require --audit")
	case c.service != "" && c.peers != nil:
		return config{}, errors.New("--service and --peers exclude each other")
	case (c.service != "" || c.peers != nil) && !isOrdinal:
		return config{}, fmt.Errorf("--service and --peers require a pod of a StatefulSet, NAME-ORDINAL, not %q", c.pod)
	case c.maxSessions < 1 || c.spare < 0 || c.sharedProcesses < 1 || c.maxLine < 1 || c.limits.Body < 1:
		return config{}, errors.New("numbers of sessions, processes and bytes must be positive")
	}
	return c, nil
}

// isAlone reports whether there are no other pods.
func (c config) isAlone() bool { return c.service == "" && c.peers == nil }
