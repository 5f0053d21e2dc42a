// Package controlplane runs a real Kubernetes control plane on this machine: etcd, kube-apiserver and, as asked for,
// kube-controller-manager, kube-scheduler, metrics-server, and nodes. A node is played by kwok, or it is a real one with
// kubelet, kube-proxy, containerd and CoreDNS. With a played node every server listens on a free loopback port; with real
// nodes everything runs in network namespaces of its own, which only a proxy of kube-apiserver on a free loopback port
// connects to the machine. All state is in a temporary folder.
//
// The executables are built from the Go modules in components and runtime ("make control-plane", "make node"). They are
// modules of their own, so that the operator's go.mod stays free of k8s.io/kubernetes; this package needs none of them.
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

// Components that Options can ask for. Etcd and KubeAPIServer always run.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	// KubeScheduler comes with a node, because without one there is nothing to schedule on.
	KubeScheduler = "kube-scheduler"
	// MetricsServer needs KubeScheduler: it scrapes the node.
	MetricsServer = "metrics-server"
)

// Kubelet is, with "-" and the name of a node behind it, the kubelet of a real node.
const Kubelet = "kubelet"

const (
	kwok       = "kwok"
	kubeProxy  = "kube-proxy"
	containerd = "containerd"
	coreDNS    = "coredns"
)

// NodeKind is what the pods run on.
type NodeKind string

const (
	// Played is a node that kwok plays: its pods are Running and Ready at once, and nothing runs.
	Played NodeKind = "played"
	// Real is a node on which pods run: see Preflight for what it needs.
	Real NodeKind = "real"
)

// startTimeout is the most that one component may take until it is ready. All of them together take about 10 s on an
// idle machine with two cores; the rest is for a machine that compiles meanwhile.
const startTimeout = 3 * time.Minute

// Options say what to start.
type Options struct {
	// Components to run besides etcd and kube-apiserver: KubeControllerManager, KubeScheduler, MetricsServer.
	Components []string
	// Node is the kind of node that comes with KubeScheduler. Defaults to Played.
	Node NodeKind
	// Nodes is how many real nodes there are, 1 or 2. Defaults to 1. A played node is always one.
	Nodes int
	// Assets is the folder of the executables. Empty: see FindAssets.
	Assets string
	// APIServerArgs are added to the arguments of kube-apiserver.
	APIServerArgs []string
	// Durable makes etcd write to the disk before it answers. Without it a run is faster, and etcd may forget what it
	// has answered when the machine crashes.
	Durable bool
}

// ControlPlane is a control plane that runs.
type ControlPlane struct {
	// Dir holds the state, the certificates and the logs.
	Dir string
	// Kubeconfig is a file with the credentials of a member of system:masters.
	Kubeconfig string
	// AuditLog is the file to which kube-apiserver writes every request, one JSON event a line. The
	// writes of StatefulSets have their bodies and their answers, the others are at the level Metadata.
	AuditLog string
	// Config has the same credentials as Kubeconfig, and no client-side rate limit.
	Config *rest.Config

	assets    string
	authority *authority
	address   string
	processes []*process

	namespace *namespace.Namespace // where the control plane runs; nil: on the machine itself
	nodes     []*realNode
	entrance  *entrance // of kube-apiserver, when it runs in a namespace
}

// Start starts a control plane and returns when all of it is ready. When it fails, or when ctx ends, everything that
// was started is stopped; the error names the log of the component that failed, and the logs are kept.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	assets, err := FindAssets(options.Assets)
	if err != nil {
		return nil, err
	}
	// A port that was free when it was chosen can be taken when it is used. That is rare, and a second try settles it.
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

// startNode starts the node, or the nodes, and returns when pods can run.
func (cp *ControlPlane) startNode(ctx context.Context, clients kubernetes.Interface, kind NodeKind) error {
	if kind == Real {
		return cp.startRealNodes(ctx, clients)
	}
	return cp.startPlayedNode(ctx, clients)
}

// Stop stops every component, the last started first, and every container of a real node. It removes Dir unless keep is
// set; with keep it leaves Dir and says where it is.
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
		return fmt.Errorf("a real node needs %q and %q", KubeControllerManager, KubeScheduler)
	}
	if slices.Contains(o.Components, MetricsServer) && !slices.Contains(o.Components, KubeScheduler) {
		return fmt.Errorf("component %q needs %q, which brings the node that it scrapes", MetricsServer, KubeScheduler)
	}
	return nil
}

// AssetsVariable names the environment variable that FindAssets reads.
const AssetsVariable = "CONTROLPLANE_ASSETS"

// FindAssets returns the folder of the executables: dir unless it is empty, else the value of AssetsVariable, else
// bin/components in the nearest folder above the working directory that has one. It fails when there is none.
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
