// Package controlplane runs a real Kubernetes control plane on this machine: etcd, kube-apiserver and, as asked for,
// kube-controller-manager, kube-scheduler, a node played by kwok, and metrics-server. Every server listens on a free
// loopback port and keeps its state in a temporary folder.
//
// The executables are built from the Go module in components ("make control-plane"). That is a module of its own, so
// that the operator's go.mod stays free of k8s.io/kubernetes; this package needs none of it.
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
)

// Components that Options can ask for. Etcd and KubeAPIServer always run.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	// KubeScheduler comes with a node that kwok plays, because without one there is nothing to schedule on.
	KubeScheduler = "kube-scheduler"
	// MetricsServer needs KubeScheduler: it scrapes the node.
	MetricsServer = "metrics-server"
)

const kwok = "kwok"

// startTimeout is the most that one component may take until it is ready. All of them together take about 10 s on an
// idle machine with two cores; the rest is for a machine that compiles meanwhile.
const startTimeout = 3 * time.Minute

// Options say what to start.
type Options struct {
	// Components to run besides etcd and kube-apiserver: KubeControllerManager, KubeScheduler, MetricsServer.
	Components []string
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
	if err := cp.startServing(ctx, options); err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(cp.Config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if slices.Contains(options.Components, KubeControllerManager) {
		if err := cp.startControllerManager(ctx); err != nil {
			return err
		}
	}
	if slices.Contains(options.Components, KubeScheduler) {
		if err := cp.startScheduler(ctx); err != nil {
			return err
		}
		if err := cp.startNode(ctx, clients); err != nil {
			return err
		}
	}
	if slices.Contains(options.Components, MetricsServer) {
		return cp.startMetricsServer(ctx)
	}
	return nil
}

// Stop stops every component, the last started first. It removes Dir unless keep is set; with keep it leaves Dir and
// says where it is.
func (cp *ControlPlane) Stop(keep bool) error {
	var errs []error
	for _, p := range slices.Backward(cp.processes) {
		errs = append(errs, p.stop())
	}
	cp.processes = nil
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
