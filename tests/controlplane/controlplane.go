// Package controlplane runs a real Kubernetes control plane on this machine. It always starts etcd and kube-apiserver.
// Options can add kube-controller-manager, kube-scheduler, metrics-server, and nodes. A node is either played by kwok, or
// real: with kubelet, kube-proxy, containerd and CoreDNS. With a played node, every server listens on a free loopback port.
// With real nodes, everything runs in separate network namespaces. The only connection to the machine is a proxy for
// kube-apiserver on a free loopback port. All state is in a temporary folder.
//
// "make control-plane" and "make node" build the executables from the Go modules in components and runtime. These modules
// are separate to keep k8s.io/kubernetes out of the operator's go.mod. This package does not import them.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"mcpserver-operator/tests/controlplane/namespace"
)

// Components for Options. Etcd and KubeAPIServer always run.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	// KubeScheduler also starts a node.
	KubeScheduler = "kube-scheduler"
	// MetricsServer requires KubeScheduler, which starts the node that it scrapes.
	MetricsServer = "metrics-server"
)

// Kubelet is the prefix of the component name of a real node's kubelet. The full name is "kubelet-NODE".
const Kubelet = "kubelet"

const (
	kwok       = "kwok"
	kubeProxy  = "kube-proxy"
	containerd = "containerd"
	coreDNS    = "coredns"
)

// NodeKind is the kind of node that pods run on.
type NodeKind string

const (
	// Played is a node that kwok simulates. Its pods become Running and Ready at once, but no container runs.
	Played NodeKind = "played"
	// Real is a node that runs containers. Preflight checks its requirements.
	Real NodeKind = "real"
)

// startTimeout limits how long a single component may take to become ready. On an idle machine with two cores, all
// components together take about 10 s. The limit allows for a machine that is busy compiling.
const startTimeout = 3 * time.Minute

// Options select what to start.
type Options struct {
	// Components to run besides etcd and kube-apiserver: KubeControllerManager, KubeScheduler, MetricsServer.
	Components []string
	// Node is the kind of node that comes with KubeScheduler. Defaults to Played.
	Node NodeKind
	// Nodes is how many real nodes there are, 1 or 2. Defaults to 1. A played node is always one.
	Nodes int
	// Assets is the folder of the executables. If empty, FindAssets looks for it.
	Assets string
	// APIServerArgs are appended to the arguments of kube-apiserver.
	APIServerArgs []string
	// Durable makes etcd write to the disk before it answers. If unset, runs are faster, but etcd may lose acknowledged
	// writes when the machine crashes.
	Durable bool
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	// Dir holds the state, the certificates and the logs.
	Dir string
	// Kubeconfig is a file with the credentials of a member of system:masters.
	Kubeconfig string
	// AuditLog is the file to which kube-apiserver writes every request, as one JSON event per line. Events for writes of
	// StatefulSets contain the request and response bodies. All other events have the level Metadata.
	AuditLog string
	// Config has the same credentials as Kubeconfig. It has no client-side rate limit.
	Config *rest.Config

	assets    string
	authority *authority
	address   string
	processes []*process

	namespace *namespace.Namespace // of the control plane; nil if it runs on the machine itself
	nodes     []*realNode
	entrance  *entrance // to kube-apiserver, if it runs in a namespace
}

// Start starts a control plane and returns when every component is ready. If Start fails or ctx ends, it stops all
// components and keeps the logs. The error names the log of the component that failed.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	assets, err := FindAssets(options.Assets)
	if err != nil {
		return nil, err
	}
	// Another process can take a port between its selection and its use. This is rare, so a retry is enough.
	const tries = 3
	for try := 1; ; try++ {
		cp, err := start(ctx, assets, options)
		if err == nil {
			return cp, nil
		}
		if try == tries || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
	}
}

func start(ctx context.Context, assets string, options Options) (*ControlPlane, error) {
	dir, err := os.MkdirTemp("", "controlplane-")
	if err != nil {
		return nil, fmt.Errorf("making the folder of the control plane: %w", err)
	}
	cp := &ControlPlane{Dir: dir, assets: assets, AuditLog: filepath.Join(dir, "audit.log")}
	if err := cp.startAll(ctx, options); err != nil {
		return nil, errors.Join(err, cp.Stop(true))
	}
	return cp, nil
}

func (cp *ControlPlane) startAll(ctx context.Context, options Options) error {
	var err error
	if cp.authority, err = newAuthority(cp.Dir); err != nil {
		return err
	}
	if options.Node == Real {
		if err := cp.makeNodes(options.Nodes); err != nil {
			return err
		}
	}
	if err := cp.startServing(ctx, options); err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(cp.Config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if slices.Contains(options.Components, KubeControllerManager) {
		if err := cp.startControllerManager(ctx, options.Node); err != nil {
			return err
		}
	}
	if slices.Contains(options.Components, KubeScheduler) {
		if err := cp.startScheduler(ctx); err != nil {
			return err
		}
		if err := cp.startNode(ctx, clients, options.Node); err != nil {
			return err
		}
	}
	if slices.Contains(options.Components, MetricsServer) {
		return cp.startMetricsServer(ctx)
	}
	return nil
}

// startNode starts the node or nodes, and returns when pods can run.
func (cp *ControlPlane) startNode(ctx context.Context, clients kubernetes.Interface, kind NodeKind) error {
	if kind == Real {
		return cp.startRealNodes(ctx, clients)
	}
	return cp.startPlayedNode(ctx, clients)
}

// Stop stops all components, in reverse order of their start, and all containers on real nodes. It removes Dir unless keep
// is set. If keep is set, it prints the path of Dir.
func (cp *ControlPlane) Stop(keep bool) error {
	var errs []error
	for _, p := range slices.Backward(cp.processes) {
		errs = append(errs, p.stop())
	}
	cp.processes = nil
	errs = append(errs, cp.removeNodes())
	if keep {
		fmt.Fprintf(os.Stderr, "The logs of the control plane are in %s\n", cp.Dir)
	} else if err := os.RemoveAll(cp.Dir); err != nil {
		errs = append(errs, fmt.Errorf("removing the folder of the control plane: %w", err))
	}
	return errors.Join(errs...)
}

// Kubectl returns the path of the kubectl that belongs to this control plane.
func (cp *ControlPlane) Kubectl() string { return filepath.Join(cp.assets, "kubectl") }

func (o Options) validate() error {
	known := []string{Etcd, KubeAPIServer, KubeControllerManager, KubeScheduler, MetricsServer}
	for _, component := range o.Components {
		if !slices.Contains(known, component) {
			return fmt.Errorf("unknown component %q: choose from %s", component, strings.Join(known, ", "))
		}
	}
	switch {
	case o.Node != "" && o.Node != Played && o.Node != Real:
		return fmt.Errorf("unknown kind of node %q: choose %s or %s", o.Node, Played, Real)
	case o.Nodes < 0 || o.Nodes > mostNodes || (o.Nodes > 1 && o.Node != Real):
		return fmt.Errorf("%d nodes: there can be one played node, or 1 to %d real ones", o.Nodes, mostNodes)
	}
	schedules := slices.Contains(o.Components, KubeControllerManager) && slices.Contains(o.Components, KubeScheduler)
	if o.Node == Real && !schedules {
		return fmt.Errorf("a real node requires %q and %q", KubeControllerManager, KubeScheduler)
	}
	if slices.Contains(o.Components, MetricsServer) && !slices.Contains(o.Components, KubeScheduler) {
		return fmt.Errorf("component %q needs %q, which brings the node that it scrapes", MetricsServer, KubeScheduler)
	}
	return nil
}

// AssetsVariable names the environment variable that FindAssets reads.
const AssetsVariable = "CONTROLPLANE_ASSETS"

// FindAssets returns the folder of the executables. It uses dir if that is not empty, then the value of AssetsVariable, then
// bin/components in the working directory or its nearest parent that contains one. It fails if none exists.
func FindAssets(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv(AssetsVariable)
	}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, KubeAPIServer)); err != nil {
			return "", fmt.Errorf("looking for the control plane's executables: %w; run \"make control-plane\"", err)
		}
		return filepath.Abs(dir)
	}
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the control plane's executables: %w", err)
	}
	for at := working; ; at = filepath.Dir(at) {
		candidate := filepath.Join(at, "bin", "components")
		if _, err := os.Stat(filepath.Join(candidate, KubeAPIServer)); err == nil {
			return candidate, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no bin/components with a kube-apiserver in or above %s: run \"make control-plane\"", working)
		}
	}
}
