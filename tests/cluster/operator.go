package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"mcpserver-operator/tests/controlplane"
)

// OperatorNamespace is the operator's namespace in deploy/.
const OperatorNamespace = "mcpserver-operator-system"

// operatorAccount is the operator's ServiceAccount in deploy/.
const operatorAccount = "mcpserver-operator"

// OperatorUser is the user name of the operator in requests to the API server.
const OperatorUser = "system:serviceaccount:" + OperatorNamespace + ":" + operatorAccount

// buildTags are the tags of make build. With fieldsv1string, equal field sets in managedFields share memory.
const buildTags = "fieldsv1string"

// operatorTimeout limits how long the operator may take to start or to stop.
const operatorTimeout = time.Minute

// Operator is a process that runs the operator.
type Operator struct {
	cluster        *Cluster
	kubeconfig     string
	binary         string
	environment    []string
	args           []string
	metricsAddress string
	probeAddress   string
	log            string

	command *exec.Cmd
	exited  chan struct{}
	ended   bool // by Stop or Kill
}

// StartOperator builds the operator from source, starts it with its ServiceAccount, and returns when it is ready. It appends args
// to the operator's flags.
func (c *Cluster) StartOperator(ctx context.Context, args ...string) (*Operator, error) {
	return c.startOperator(ctx, "development", func(*rest.Config) {}, nil, args)
}

// StartOperatorVersion is StartOperator with a version linked into the binary, as in a release. The user agent of the operator's
// requests contains the version.
func (c *Cluster) StartOperatorVersion(ctx context.Context, version string, args ...string) (*Operator, error) {
	return c.startOperator(ctx, version, func(*rest.Config) {}, nil, args)
}

// StartOperatorThrough is StartOperator for an operator that reaches the API server in a different way, such as through a proxy.
// The function connect changes the client configuration.
func (c *Cluster) StartOperatorThrough(ctx context.Context, connect func(*rest.Config), args ...string) (*Operator, error) {
	return c.startOperator(ctx, "development", connect, nil, args)
}

// StartOperatorIn is StartOperator with further environment variables, each as NAME=VALUE.
func (c *Cluster) StartOperatorIn(ctx context.Context, environment []string, args ...string) (*Operator, error) {
	return c.startOperator(ctx, "development", func(*rest.Config) {}, environment, args)
}

// StartOperatorFrom is StartOperator for another version of the operator, built from the source in a folder.
func (c *Cluster) StartOperatorFrom(ctx context.Context, root, version string, args ...string) (*Operator, error) {
	binary, err := c.buildIn(ctx, root, "mcpserver-operator", ".", version)
	if err != nil {
		return nil, err
	}
	return c.startBinary(ctx, binary, func(*rest.Config) {}, nil, args)
}

func (c *Cluster) startOperator(ctx context.Context, version string, connect func(*rest.Config), environment, args []string) (*Operator, error) {
	binary, err := c.buildOperator(ctx, version)
	if err != nil {
		return nil, err
	}
	return c.startBinary(ctx, binary, connect, environment, args)
}

func (c *Cluster) startBinary(ctx context.Context, binary string, connect func(*rest.Config), environment, args []string) (*Operator, error) {
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	o := &Operator{
		cluster: c, environment: environment, args: args, binary: binary,
		kubeconfig: filepath.Join(c.dir, "operator-"+id+".kubeconfig"),
		log:        filepath.Join(c.dir, "operator-"+id+".log"),
	}
	config, err := c.OperatorConfig(ctx)
	if err != nil {
		return nil, err
	}
	connect(config)
	if err := controlplane.WriteKubeconfig(o.kubeconfig, config); err != nil {
		return nil, err
	}
	return o, o.Start(ctx)
}

// buildOperator builds the operator and returns the path of the executable.
func (c *Cluster) buildOperator(ctx context.Context, version string) (string, error) {
	return c.build(ctx, "mcpserver-operator", ".", version)
}

// build builds a program of the module, once for each version, and returns the path of the executable.
func (c *Cluster) build(ctx context.Context, program, source, version string) (string, error) {
	return c.buildIn(ctx, c.root, program, source, version)
}

// buildIn is build for the module in another folder.
func (c *Cluster) buildIn(ctx context.Context, root, program, source, version string) (string, error) {
	c.programs.Lock()
	defer c.programs.Unlock()
	binary := filepath.Join(c.dir, version, program)
	if c.programs.built[binary] {
		return binary, nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-tags="+buildTags, "-ldflags=-X main.version="+version, "-o", binary, source)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", program, err, out)
	}
	if c.programs.built == nil {
		c.programs.built = map[string]bool{}
	}
	c.programs.built[binary] = true
	return binary, nil
}

// OperatorConfig returns a client configuration with the operator's ServiceAccount and no client-side rate limit.
func (c *Cluster) OperatorConfig(ctx context.Context) (*rest.Config, error) {
	return c.ConfigOf(ctx, OperatorNamespace, operatorAccount)
}

// ConfigOf returns a client configuration with a ServiceAccount and no client-side rate limit.
func (c *Cluster) ConfigOf(ctx context.Context, namespace, account string) (*rest.Config, error) {
	token, err := c.token(ctx, namespace, account)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host: c.Config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: c.Config.CAData, CAFile: c.Config.CAFile},
		BearerToken: token, QPS: -1,
	}, nil
}

// token requests a token for a ServiceAccount.
func (c *Cluster) token(ctx context.Context, namespace, account string) (string, error) {
	day := int64((24 * time.Hour).Seconds())
	request, err := c.Clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &day}},
		metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of %s: %w", account, err)
	}
	return request.Status.Token, nil
}

// Start starts the operator again after Stop, and returns when the operator is ready. If it returns an error, the operator does not run.
func (o *Operator) Start(ctx context.Context) error {
	var err error
	if o.metricsAddress, err = freeAddress(); err != nil {
		return err
	}
	if o.probeAddress, err = freeAddress(); err != nil {
		return err
	}
	log, err := os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the operator's log: %w", err)
	}
	defer log.Close()
	command := exec.Command(o.binary, append([]string{
		"--kubeconfig=" + o.kubeconfig,
		"--metrics-bind-address=" + o.metricsAddress,
		"--health-probe-bind-address=" + o.probeAddress,
	}, o.args...)...)
	command.Env = append(os.Environ(), o.environment...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting the operator: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait() // the log contains the reason
		close(exited)
	}()
	o.command, o.exited, o.ended = command, exited, false
	err = wait.PollUntilContextTimeout(ctx, pollInterval, operatorTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-o.exited:
			return false, errors.New("the process ended")
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.probeAddress+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil // not yet
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		err = errors.Join(err, o.Kill())
		content, _ := os.ReadFile(o.log)
		return fmt.Errorf("starting the operator: %w\n%s", err, content)
	}
	return nil
}

// Stop ends the operator as Kubernetes does: with SIGTERM, and with SIGKILL after a timeout.
func (o *Operator) Stop() error {
	o.ended = o.ended || o.Running()
	if err := o.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the operator: %w", err)
	}
	select {
	case <-o.exited:
		return nil
	case <-time.After(operatorTimeout):
		return errors.Join(errors.New("the operator did not stop"), o.command.Process.Kill())
	}
}

// Kill ends the operator with SIGKILL, as in a crash.
func (o *Operator) Kill() error {
	o.ended = o.ended || o.Running()
	if err := o.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing the operator: %w", err)
	}
	<-o.exited
	return nil
}

// Freeze pauses the operator process until Thaw is called.
func (o *Operator) Freeze() error { return o.command.Process.Signal(syscall.SIGSTOP) }

// Thaw resumes a frozen operator process.
func (o *Operator) Thaw() error { return o.command.Process.Signal(syscall.SIGCONT) }

// Exited returns a channel that is closed when the most recently started operator process ends.
func (o *Operator) Exited() <-chan struct{} { return o.exited }

// Running reports whether the operator process runs.
func (o *Operator) Running() bool {
	select {
	case <-o.exited:
		return false
	default:
		return true
	}
}

// Crashed reports whether the operator process has ended by itself, without Stop or Kill.
func (o *Operator) Crashed() bool { return !o.Running() && !o.ended }

// Restart stops the operator and starts it again. It returns when the operator has finished a pass over every MCPServer.
func (o *Operator) Restart(ctx context.Context) error {
	if err := o.Stop(); err != nil {
		return err
	}
	if err := o.Start(ctx); err != nil {
		return err
	}
	return o.WaitForPassOverAll(ctx)
}

// Binary returns the path of the operator's executable.
func (o *Operator) Binary() string { return o.binary }

// LogFile returns the path of the operator's log, which starts with the operator's first start.
func (o *Operator) LogFile() string { return o.log }

// LogMark returns the current end of the log.
func (o *Operator) LogMark() (int64, error) {
	info, err := os.Stat(o.log)
	if err != nil {
		return 0, fmt.Errorf("reading the size of the operator's log: %w", err)
	}
	return info.Size(), nil
}

// WaitForPassOver waits until the operator has started and finished a pass over the MCPServer in the given namespace, after a mark
// in the log. The operator must log at level 5.
func (o *Operator) WaitForPassOver(ctx context.Context, mark int64, namespace string) error {
	err := wait.PollUntilContextTimeout(ctx, pollInterval, operatorTimeout, true, func(context.Context) (bool, error) {
		content, err := os.ReadFile(o.log)
		if err != nil {
			return false, fmt.Errorf("reading the operator's log: %w", err)
		}
		begun := map[string]bool{}
		for line := range bytes.Lines(content[mark:]) {
			var entry struct{ Msg, Namespace, ReconcileID string }
			if json.Unmarshal(line, &entry) != nil || entry.Namespace != namespace {
				continue
			}
			switch {
			case entry.Msg == "Reconciling":
				begun[entry.ReconcileID] = true
			case strings.HasPrefix(entry.Msg, "Reconcile") && begun[entry.ReconcileID]: // matches success, done and error
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for a pass over the MCPServer in %s: %w", namespace, err)
	}
	return nil
}

// ErrorsSince returns the errors in which passes over MCPServers in the given namespace have ended, after a mark in the log.
func (o *Operator) ErrorsSince(mark int64, namespace string) ([]string, error) {
	content, err := os.ReadFile(o.log)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's log: %w", err)
	}
	var found []string
	for line := range bytes.Lines(content[mark:]) {
		var entry struct{ Msg, Namespace, Error string }
		if json.Unmarshal(line, &entry) == nil && entry.Namespace == namespace && entry.Msg == "Reconciler error" {
			found = append(found, entry.Error)
		}
	}
	return found, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Runner builds the runner from source and returns the path of the executable.
func (c *Cluster) Runner(ctx context.Context) (string, error) {
	return c.build(ctx, "mcp-runner", "./runner", "development")
}
