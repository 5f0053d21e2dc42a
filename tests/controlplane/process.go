package controlplane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"mcpserver-operator/tests/controlplane/namespace"
)

// parentFDVariable holds a file descriptor: the read end of a pipe. The kernel closes the pipe when this process ends, for
// whatever reason. The components' package parent reads the variable.
const parentFDVariable = "CONTROLPLANE_PARENT_FD"

// stopGrace is the time that a component has to end after SIGTERM. After that, it is killed.
const stopGrace = 15 * time.Second

// process is a component that was started.
type process struct {
	name    string
	log     string
	in      *namespace.Namespace // nil if it runs on the machine itself
	ready   func(context.Context) error
	cmd     *exec.Cmd
	alive   *os.File // the write end of the pipe that the component watches
	exited  chan struct{}
	exitErr error // set before exited is closed
}

// run starts a component in the control plane's namespace, and returns when ready returns nil.
func (cp *ControlPlane) run(ctx context.Context, name string, ready func(context.Context) error, args ...string) error {
	return cp.runIn(ctx, cp.namespace, name, name, ready, args...)
}

// runIn starts an executable in a namespace, under the given component name, and returns when ready returns nil.
func (cp *ControlPlane) runIn(
	ctx context.Context, in *namespace.Namespace, name, executable string, ready func(context.Context) error, args ...string,
) error {
	p, err := startProcess(in, name, filepath.Join(cp.assets, executable), filepath.Join(cp.Dir, name+".log"), args...)
	if err != nil {
		return err
	}
	p.ready = ready
	cp.processes = append(cp.processes, p)
	return p.waitReady(ctx)
}

// Kill ends a component with SIGKILL, as in a crash. Its data, address and certificates remain.
func (cp *ControlPlane) Kill(name string) error {
	i, err := cp.find(name)
	if err != nil {
		return err
	}
	p := cp.processes[i]
	defer p.alive.Close()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", name, err)
	}
	<-p.exited
	return nil
}

// StartAgain restarts a component that has ended, with the same arguments, and returns when it is ready.
func (cp *ControlPlane) StartAgain(ctx context.Context, name string) error {
	i, err := cp.find(name)
	if err != nil {
		return err
	}
	ended := cp.processes[i]
	p, err := startProcess(ended.in, ended.name, ended.cmd.Path, ended.log, ended.cmd.Args[1:]...)
	if err != nil {
		return err
	}
	p.ready = ended.ready
	cp.processes[i] = p
	return p.waitReady(ctx)
}

// StartEnded restarts every component that has ended, as the kubelet does with the static pods of a control plane. For
// example, kube-scheduler exits when its cache disagrees with an API server that was restarted.
func (cp *ControlPlane) StartEnded(ctx context.Context) error {
	for _, p := range cp.processes {
		select {
		case <-p.exited:
			if err := cp.StartAgain(ctx, p.name); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

func (cp *ControlPlane) find(name string) (int, error) {
	i := slices.IndexFunc(cp.processes, func(p *process) bool { return p.name == name })
	if i < 0 {
		return 0, fmt.Errorf("%s is not part of this control plane", name)
	}
	return i, nil
}

func startProcess(in *namespace.Namespace, name, path, logPath string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer log.Close()
	watched, alive, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer watched.Close()

	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{watched} // descriptor 3: ExtraFiles follow standard input, output and error
	// containerd looks up its shim in PATH.
	cmd.Env = append(os.Environ(), parentFDVariable+"=3", "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	// The component gets its own process group. Ctrl-C in a terminal then reaches only this process, which stops the components
	// in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := in.Start(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), alive.Close())
	}
	p := &process{name: name, in: in, log: logPath, cmd: cmd, alive: alive, exited: make(chan struct{})}
	go func() {
		p.exitErr = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) waitReady(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, startTimeout, true,
		func(ctx context.Context) (bool, error) {
			select {
			case <-p.exited:
				return false, fmt.Errorf("it ended: %w", cmp.Or(p.exitErr, errors.New("without an error")))
			default:
			}
			last = p.ready(ctx)
			return last == nil, nil
		})
	if err == nil {
		return nil
	}
	if last != nil {
		err = fmt.Errorf("%w; last answer: %w", err, last)
	}
	return fmt.Errorf("starting %s: %w\nIts log is %s and ends with:\n%s", p.name, err, p.log, tail(p.log))
}

func (p *process) stop() error {
	defer p.alive.Close()
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopGrace):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.exited
	return nil
}

// tail returns the last lines of a log, for error messages.
func tail(path string) string {
	const most = 2000
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(content) > most {
		content = content[len(content)-most:]
		if _, rest, found := bytes.Cut(content, []byte("\n")); found {
			content = rest
		}
	}
	return string(content)
}

// FreePorts returns n different ports of 127.0.0.1 on which nothing listens.
func FreePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer listener.Close() // kept open until all ports are selected, so that they differ
		ports[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// answers returns a readiness check. The check passes when a GET of url in a namespace returns 200. The server's certificate
// must be signed by the authority.
func (cp *ControlPlane) answers(in *namespace.Namespace, url string) func(context.Context) error {
	client, err := rest.HTTPClientFor(&rest.Config{
		TLSClientConfig: rest.TLSClientConfig{CAData: cp.authority.certPEM}, Dial: in.DialContext,
	})
	if err != nil {
		return func(context.Context) error { return fmt.Errorf("making a client: %w", err) }
	}
	return answersOK(client, url)
}

// answersOK returns a readiness check. The check passes when a GET of url returns 200.
func answersOK(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}
