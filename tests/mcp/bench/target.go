package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// target is what clients call.
type target struct {
	name string
	// start starts the target.
	start func(ctx context.Context, p *programs, r *running) error
	// isPinned is true if each client has to stay with one replica. Otherwise, each request goes to the next replica.
	isPinned bool
}

// running is a target that runs.
type running struct {
	// urls are the URLs of the replicas.
	urls []string
	// fronts are the bridges of the replicas, or the servers if there are no bridges.
	fronts []*exec.Cmd
	// servers are HTTP servers behind the fronts.
	servers []*exec.Cmd
	// management are the management ports of runners.
	management []string
}

func (t target) run(ctx context.Context, p *programs) (*running, error) {
	r := &running{}
	if err := t.start(ctx, p, r); err != nil {
		r.stop()
		return nil, fmt.Errorf("starting %s: %w", t.name, err)
	}
	return r, nil
}

func (r *running) stop() {
	for _, command := range append(r.fronts, r.servers...) {
		stop(command)
	}
}

// pidsOfFronts returns the process ids of the fronts, without the processes that they have started.
func (r *running) pidsOfFronts() (pids []int) {
	for _, command := range r.fronts {
		pids = append(pids, command.Process.Pid)
	}
	return pids
}

// pids returns the process ids of the target, with the processes of stdio servers.
func (r *running) pids() (pids []int) {
	for _, command := range append(r.fronts[:len(r.fronts):len(r.fronts)], r.servers...) {
		pids = append(pids, tree(command.Process.Pid)...)
	}
	return pids
}

// The targets.
var (
	own          = target{name: "the server's own HTTP", start: startOwn(1)}
	runnerStdio  = target{name: "runner, stdio server", start: startRunners(1, behindStdio)}
	runnerHTTP   = target{name: "runner, HTTP server", start: startRunners(1, behindHTTP)}
	supergateway = target{name: "supergateway, stdio server", start: startSupergateway}
	mcpProxy     = target{name: "mcp-proxy, stdio server", start: startMCPProxy}
	ownOfThree   = target{name: "the server's own HTTP, 3 replicas", start: startOwn(3), isPinned: true}
	stdioOfThree = target{name: "runner, stdio server, 3 replicas", start: startRunners(3, behindStdio)}
	httpOfThree  = target{name: "runner, HTTP server, 3 replicas", start: startRunners(3, behindHTTP)}
)

// freeAddresses returns addresses on which nothing listens. Two of the programs cannot choose a free port themselves, and runners must know each other's.
func freeAddresses(ctx context.Context, count int) (addresses []string, err error) {
	for range count {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

func startOwn(replicas int) func(context.Context, *programs, *running) error {
	return func(ctx context.Context, p *programs, r *running) error {
		addresses, err := freeAddresses(ctx, replicas)
		if err != nil {
			return err
		}
		for _, address := range addresses {
			url, err := r.serve(ctx, p, &r.fronts, address)
			if err != nil {
				return err
			}
			r.urls = append(r.urls, url)
		}
		return nil
	}
}

// serve starts the server with its own HTTP and adds it to a list.
func (r *running) serve(ctx context.Context, p *programs, list *[]*exec.Cmd, address string) (url string, err error) {
	command, err := start(p.server, "-http="+address, "-stateless=false")
	if err != nil {
		return "", err
	}
	*list = append(*list, command)
	url = "http://" + address + "/"
	return url, answers(ctx, url, func(int) bool { return true })
}

// behind starts what is behind a runner, and returns the last arguments of the runner.
type behind func(ctx context.Context, p *programs, r *running) ([]string, error)

func behindStdio(_ context.Context, p *programs, _ *running) ([]string, error) {
	return []string{"--", p.server}, nil
}

func behindStdioWithoutSpare(_ context.Context, p *programs, _ *running) ([]string, error) {
	return []string{"--spare-processes=0", "--", p.server}, nil
}

func behindHTTP(ctx context.Context, p *programs, r *running) ([]string, error) {
	addresses, err := freeAddresses(ctx, 1)
	if err != nil {
		return nil, err
	}
	url, err := r.serve(ctx, p, &r.servers, addresses[0])
	return []string{"--upstream=" + url}, err
}

// startRunners starts runners that know each other.
func startRunners(replicas int, behind behind) func(context.Context, *programs, *running) error {
	return func(ctx context.Context, p *programs, r *running) error {
		addresses, err := freeAddresses(ctx, 2*replicas)
		if err != nil {
			return err
		}
		var peers []string
		for i := range replicas {
			peers = append(peers, addresses[2*i]+"/"+addresses[2*i+1])
		}
		for i := range replicas {
			args := []string{
				"--listen=" + addresses[2*i], "--management=" + addresses[2*i+1], fmt.Sprintf("--pod=web-%d", i), "--drain-delay=0s", "--drain-timeout=1s",
			}
			if replicas > 1 {
				args = append(args, "--peers="+strings.Join(peers, ","))
			}
			last, err := behind(ctx, p, r)
			if err != nil {
				return err
			}
			command, err := start(p.runner, append(args, last...)...)
			if err != nil {
				return err
			}
			r.fronts = append(r.fronts, command)
			r.urls = append(r.urls, "http://"+addresses[2*i]+"/mcp")
			r.management = append(r.management, "http://"+addresses[2*i+1])
		}
		for _, management := range r.management {
			if err := answers(ctx, management+"/readyz", func(status int) bool { return status == http.StatusOK }); err != nil {
				return err
			}
		}
		return nil
	}
}

func startSupergateway(ctx context.Context, p *programs, r *running) error {
	return r.startBridge(ctx, p, filepath.Join("supergateway", "dist", "index.js"), func(port string) []string {
		return []string{"--stdio", p.server, "--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none", "--port", port}
	})
}

func startMCPProxy(ctx context.Context, p *programs, r *running) error {
	return r.startBridge(ctx, p, filepath.Join("mcp-proxy", "dist", "bin", "mcp-proxy.mjs"), func(port string) []string {
		return []string{"--host", "127.0.0.1", "--server", "stream", "--port", port, "--", p.server}
	})
}

// startBridge starts a program for Node.js.
func (r *running) startBridge(ctx context.Context, p *programs, script string, args func(port string) []string) error {
	addresses, err := freeAddresses(ctx, 1)
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addresses[0]) // of a listener
	command, err := start(p.node, append([]string{filepath.Join(p.modules, script)}, args(port)...)...)
	if err != nil {
		return err
	}
	r.fronts = append(r.fronts, command)
	r.urls = append(r.urls, "http://"+addresses[0]+"/mcp")
	return answers(ctx, r.urls[0], func(int) bool { return true })
}

// startTimeout is how long a program may take until it answers.
const startTimeout = 30 * time.Second

// answers waits until a program answers with a status.
func answers(ctx context.Context, url string, is func(status int) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("it has not answered in time"))
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return fmt.Errorf("asking %s: %w", url, err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if is(response.StatusCode) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("asking %s: %w", url, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
